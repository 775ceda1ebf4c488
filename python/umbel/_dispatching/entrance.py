"""Lets connections in or refuses them: authentication, and the limit of connections of one identity."""

from collections.abc import Callable
from dataclasses import dataclass

from umbel._clients.identity import ANONYMOUS, Identity
from umbel._clients.request import Request
from umbel._declaring.declarations import Authenticate
from umbel._declaring.settings import Settings
from umbel.exceptions import TOO_MANY, UNAUTHENTICATED

from .caller import Caller
from .deadlines import Deadlines
from .identity_limit import IdentityLimit
from .jobs import Job, explained, shortened

Enter = Callable[[Identity], None]


@dataclass(slots=True, eq=False)
class AuthenticateJob(Job):
    """The call of ``authenticate``."""

    name = "authenticate"

    entrance: "Entrance"
    function: Authenticate
    number: int
    request: Request
    enter: Enter

    @property
    def origin(self) -> object:
        return self.request

    def call(self) -> object:
        return self.function(self.request)

    def done(self, value: object) -> None:
        if value is None:
            self.fail("not_allowed", "authentication required", close=UNAUTHENTICATED)
        else:
            self.enter(Identity.of(value))  # type: ignore[arg-type]  # it checks the type itself

    def fail(self, code: str, message: str, incident: str | None = None, close: int = 1011) -> None:
        # The core turns the close code into an error with the same text, where the protocol has errors.
        self.entrance.refuse(self.number, close, explained(message, incident))


class Entrance:
    """Lets connections in or refuses them, those of websocket paths too.

    Attributes:
        authenticate: the function of the application, if it has one.
    """

    def __init__(self, caller: Caller, authenticate: Authenticate | None, settings: Settings) -> None:
        self.authenticate = authenticate
        self._caller = caller
        self._deadlines = Deadlines(caller.loop, settings.handshake_timeout)
        self._limit = IdentityLimit(settings.max_connections_per_identity)

    def ask(self, number: int, request: Request, enter: Enter) -> None:
        """Call ``authenticate``, and then ``enter`` with the identity, unless the connection is refused."""
        if self.authenticate is None:
            enter(ANONYMOUS)
        else:
            job = AuthenticateJob(None, self, self.authenticate, number, request, enter)
            self._caller.start(job, self._deadlines)

    def admit(self, number: int, identity: Identity) -> bool:
        """Let a connection in if its identity may have one more. Returns ``False`` when it is refused."""
        if self._limit.take(number, identity.subject):
            self._caller.slots.core.admit(number)
            return True
        self.refuse(number, TOO_MANY, "this identity has as many connections as it may have")
        return False

    def leave(self, number: int) -> None:
        """A connection has ended."""
        self._limit.leave(number)

    def clear(self) -> None:
        """Forget all deadlines."""
        self._deadlines.clear()

    def refuse(self, number: int, code: int, reason: str) -> None:
        """Close a connection that is not let in."""
        self._caller.slots.core.close(number, code, shortened(reason))

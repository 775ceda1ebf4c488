"""Lets connections in or refuses them: authentication, and the limit of connections of one identity."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from threading import Lock
from time import time
from typing import NamedTuple

from orjson import dumps

from umbel._clients.identity import ANONYMOUS, Identity
from umbel._clients.request import Request
from umbel._declaring.declarations import Authenticate
from umbel._declaring.jwt import named_identity
from umbel._declaring.settings import Settings
from umbel._json import encode
from umbel.exceptions import INTERNAL, TOO_MANY, TRY_LATER, UNAUTHENTICATED

from .caller import Caller
from .deadlines import Deadlines
from .identity_limit import IdentityLimit
from .jobs import Job, explained, shortened
from .repeated import Repeated

Enter = Callable[[Identity], None]
Begin = Callable[[], None]


class Disconnected(NamedTuple):
    """A subject whose connections were closed, and how.

    Attributes:
        at: when, in the time of the loop.
        asked: the last question that `authenticate` had been asked by then.
        code: the close code.
        reason: the close reason.
    """

    at: float
    asked: int
    code: int
    reason: str


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

    @property
    def failures(self) -> Repeated:
        return self.entrance.failures

    def call(self) -> object:
        return self.function(self.request)

    def done(self, value: object) -> None:
        if value is None:
            self.fail("not_allowed", "authentication required", close=UNAUTHENTICATED)
            return
        identity = Identity.of(value)  # type: ignore[arg-type]  # it checks the type itself
        if identity.expires is not None and identity.expires <= time():
            self.fail("not_allowed", "the credentials have expired", close=UNAUTHENTICATED)
        else:
            self.enter(identity)

    def fail(self, code: str, message: str, incident: str | None = None, close: int = 1011) -> None:
        if code == "timeout":
            close = TRY_LATER  # as the core says itself, which may be first
        # The core turns the close code into an error with the same text, where the protocol has errors.
        self.entrance.refuse(self.number, close, explained(message, incident))


class Entrance:
    """Lets connections in or refuses them, those of websocket paths too.

    Attributes:
        authenticate: the function of the application, if it has one.
        failures: counts those of ``authenticate``, which anybody who connects may cause.
    """

    def __init__(
        self, caller: Caller, authenticate: Authenticate | None, settings: Settings, *, uses_claims: bool
    ) -> None:
        self.authenticate = authenticate and caller.threads.bound(authenticate)
        self.failures = Repeated(caller.loop)
        self._uses_claims = uses_claims and authenticate is not None
        self._gives_tickets = settings.ticket_path is not None
        self._caller = caller
        self._deadlines = Deadlines(caller.loop, settings.handshake_timeout)
        # By tokens, the core says who clients are, and counts them before Python hears of them.
        self._limit = IdentityLimit(settings.max_connections_per_identity if authenticate else 0)
        self._patience = settings.handshake_timeout
        self._questions = 0  # that `authenticate` was asked so far
        self._asked: dict[int, int] = {}  # which of them is about a connection that was not let in yet
        self._disconnected: dict[str, Disconnected] = {}  # the oldest first
        self._giving_way: dict[int, int] = {}  # clients that are asked to, and for which newcomer
        self._waiting: dict[int, Begin] = {}  # what newcomers do when those have answered
        self._lock = Lock()  # held for a change of it, by any thread

    def ask(self, number: int, request: Request, enter: Enter) -> None:
        """Call ``authenticate``, and then ``enter`` with the identity, unless the connection is refused."""
        if (named := request._handshake.identity) is not None:
            enter(named_identity(named))  # the core knows it: by a token or a ticket
        elif self.authenticate is None:
            enter(ANONYMOUS)
        else:
            self._questions += 1
            self._asked[number] = self._questions
            job = AuthenticateJob(None, self, self.authenticate, number, request, enter)
            self._caller.start(job, self._deadlines)

    def admit(self, number: int, identity: Identity, begin: Begin | None) -> None:
        """Let a connection in if its identity may have one more, and then ``begin``. Otherwise refuse it.

        Without ``begin`` it may belong to a client that is counted, and is not counted here but by ``count``.

        The identity is known to others by now. So a thread that disconnects its subject finds the connection,
        or is found here.
        """
        asked = self._asked.pop(number, inf)
        if (last := self._disconnected.get(identity.subject)) and asked <= last.asked:
            self.refuse(number, last.code, last.reason)
        elif begin is None:
            self._let_in(number, identity)
        else:
            self.count(number, identity.subject, partial(self._let_in, number, identity, begin))

    def _let_in(self, number: int, identity: Identity, begin: Begin | None = None) -> None:
        expires = None if identity.expires is None else int(identity.expires * 1000)
        claims = None
        if begin is None and self._gives_tickets:
            try:
                claims = encode(identity.claims)
            except (TypeError, ValueError) as error:
                incident = self._caller.failed(error, "the claims of an identity are no JSON, for a ticket")
                self.refuse(number, INTERNAL, explained("the server failed to do this", incident))
                return
        elif self._uses_claims:
            claims = dumps({name: identity.claims.get(name) for name in ("channels", "publish")})
        self._caller.slots.core.admit(number, identity.subject, expires, claims)
        if begin is not None:
            begin()

    def count(self, number: int, subject: str, begin: Begin) -> None:
        """Count a client, and then ``begin``. When its identity has too many, it is refused.

        A client of the identity that is away gives way. It may have come back, which is not known here yet.
        So the core is asked to end it only if it is still away, and the newcomer waits for the answer.
        """
        if self._limit.take(number, subject):
            begin()
        elif (other := self._limit.longest_away(subject)) is not None:
            self._limit.back(other)  # one newcomer asks it
            self._giving_way[other] = number
            self._waiting[number] = partial(self.count, number, subject, begin)
            self._caller.slots.core.give_way(other)
        else:
            reason = "this identity has as many connections as it may have (max_connections_per_identity)"
            self.refuse(number, TOO_MANY, reason)

    def stays(self, number: int) -> None:
        """A client that was to give way is not away any more."""
        self._answered(number)

    def _answered(self, number: int) -> None:
        """Let the newcomer try again for which a client was to give way."""
        newcomer = self._giving_way.pop(number, None)
        if newcomer is not None and (again := self._waiting.pop(newcomer, None)):
            again()

    def away(self, number: int) -> None:
        """A client has lost its connection, and may come back."""
        if number not in self._giving_way:
            self._limit.away(number)

    def back(self, number: int) -> None:
        """It has come back."""
        self._limit.back(number)

    def leave(self, number: int) -> None:
        """A connection has ended."""
        self._asked.pop(number, None)
        self._waiting.pop(number, None)
        self._limit.leave(number)
        self._answered(number)

    def disconnect(self, subject: str, code: int, reason: str) -> None:
        """Refuse the connections of a subject that ``authenticate`` is deciding about now.

        What it has read may be older than the reason for the disconnection.
        """
        if self.authenticate is None:
            return
        now = self._caller.loop.time()
        with self._lock:
            while self._disconnected:
                oldest = next(iter(self._disconnected))
                if now - self._disconnected[oldest].at <= 2 * self._patience:
                    break
                del self._disconnected[oldest]
            self._disconnected.pop(subject, None)
            self._disconnected[subject] = Disconnected(now, self._questions, code, reason)

    def clear(self) -> None:
        """Forget all deadlines."""
        self._deadlines.clear()

    def refuse(self, number: int, code: int, reason: str) -> None:
        """Close a connection that is not let in."""
        self._caller.slots.core.close(number, code, shortened(reason))

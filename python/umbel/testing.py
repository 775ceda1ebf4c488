"""Tests of an application: clients that connect to it in the event loop of the test.

::

    from umbel import testing

    async def test_a_message_reaches_the_room():
        async with testing.connect(app, identity="ann") as ann, testing.connect(app, identity="ben") as ben:
            room = ben.subscribe("room:1")
            await room.ready()
            await ann.publish("room:1", "hello")
            assert (await anext(room))["data"] == "hello"

The server is a real one, on a Unix socket in a temporary directory: nothing is imitated, and a test of this
kind takes a few milliseconds. It starts with the first client of an application and stops with the last one.
Needs ``umbel[client]``.
"""

import asyncio
import atexit
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Unpack, final
from weakref import WeakKeyDictionary

from umbel import Identity, Request, Server, Umbel
from umbel._clients.identity import ANONYMOUS
from umbel._core import Core
from umbel._declaring.declarations import AuthenticateResult, Declarations
from umbel._declaring.options import Options
from umbel._dispatching.dispatcher import Dispatcher
from umbel.client import Connection, Limits, State
from umbel.client._shell import Shell as ClientShell
from umbel.client._shell import Token
from umbel.exceptions import ConnectionClosed, Refused

__all__ = ["Client", "connect", "until"]


@final
class connect:  # noqa: N801 - it reads as what it does, as in `umbel.client`
    """Connect a client to an application: ``async with testing.connect(app) as client``.

    The block begins when the application has let the client in.

    Args:
        app: the application. It must not be served elsewhere at the same time.
        identity: who the client is. The ``authenticate`` function of the application is not asked, and no
            token is verified. Without it, a function and ``auth=`` the client is anonymous.
        token: what the function ``authenticate`` gets as ``request.token``, or ``auth=`` verifies, as in
            `umbel.client.connect`.
        headers: of the request that opens the connection.
        on_state: called with each new `umbel.client.State`.
        settings: of the server, for the first client of an application. Those that would make a test wait
            have other defaults: ``tick=0``, ``reconnect_window=0``, and no heartbeats for eleven days.

    Raises:
        ConnectionClosed: when the block begins, if the application refuses the client.
        RuntimeError: if the application is being served, or there are settings and it has clients already.
        ConfigurationError, TypeError, ValueError: as `Umbel.serve`.
    """

    def __init__(
        self,
        app: Umbel,
        *,
        identity: Identity | str | None = None,
        token: Token = None,
        headers: dict[str, str] | None = None,
        on_state: Callable[[State], None] | None = None,
        **settings: Unpack[Options],
    ) -> None:
        if identity is not None and token is not None:
            raise TypeError("a client has an identity or a token: the token is for the authenticate function")
        self._app, self._identity, self._token = app, identity, token
        self._headers, self._on_state, self._settings = headers or {}, on_state, settings
        self._shell: Shell | None = None

    async def __aenter__(self) -> "Client":
        stage = await Stage.of(self._app, self._settings)
        try:
            token = self._token if self._identity is None else stage.token_of(self._identity)
            shell = self._shell = Shell(stage, token, self._headers, self._on_state)
            stage.shells.append(shell)
            await shell.start()
        except BaseException:
            await self._leave()
            raise
        return Client(shell, stage)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()

    async def _leave(self) -> None:
        stage = Stages[self._app]
        try:
            if self._shell is not None:
                stage.shells.remove(self._shell)
                await self._shell.stop()
        finally:
            await stage.leave()


class Client(Connection):
    """A client of an application under test: `umbel.client.Connection`, and what can happen to it."""

    def __init__(self, shell: "Shell", stage: "Stage") -> None:
        super().__init__(shell)
        self._line = shell
        self._stage = stage

    @asynccontextmanager
    async def cut(self) -> AsyncIterator[None]:
        """Be without a network for the time of the block: ``async with client.cut()``.

        In the block the server knows that the connection is lost. What the application publishes, and what
        this client asks for, waits. After the block the client is connected again, and has its channels.
        """
        stats = self._stage.running().stats
        connections = stats().connections
        self._line.cut()
        await until(lambda: stats().connections < connections)
        try:
            yield
        finally:
            self._line.heal()
            await until(self._line.is_back)

    async def restart(self) -> None:
        """Stop the server and start it again, and wait until this client is connected and has its channels.

        Sessions and channels are lost, as in a process that is started again.
        """
        times = self._line.times
        await self._stage.restart()
        await until(lambda: self._line.times > times and self._line.is_back())

    def advance(self, seconds: float) -> None:
        """Move time forward, for the server and for all clients of the application.

        Histories and sessions that are over then end soon after: wait for it with `until`. Timers of asyncio
        are left alone, and so are the limits of functions (``handler_timeout``).

        Raises:
            RuntimeError: if the server is not running any more.
            ValueError: if that is no number of seconds.
        """
        self._stage.advance(seconds)


@final
class Shell(ClientShell):
    """The shell of a client whose network and clock are in the hands of a test.

    Attributes:
        times: how often it was connected.
    """

    def __init__(
        self, stage: "Stage", token: Token, headers: dict[str, str], on_state: Callable[[State], None] | None
    ) -> None:
        self.times = 0
        self._is_cut = False
        self._waiting: int | None = None
        self._awaited: set[int] = set()  # subscriptions that have not begun again
        options = {"unix": True, "path": str(stage.path), "additional_headers": headers, "compression": None}
        super().__init__("ws://localhost/ws", token, LIMITS, on_state, options, stage.now)

    def cut(self) -> None:
        self._is_cut = True
        if (socket := self._socket) is not None:
            socket.abort()
            self.closed(socket.attempt, 1006, "the test has cut the connection")

    def heal(self) -> None:
        self._is_cut = False
        if (attempt := self._waiting) is not None:
            self._waiting = None
            super()._act_open(attempt)

    def is_back(self) -> bool:
        return self.state.name == "closed" or (self.state.name == "connected" and not self._awaited)

    def look(self) -> None:
        """Time has passed."""
        deadline = self._machine.deadline
        if deadline is not None and deadline <= self.now():
            self._do("tick")

    def _act_open(self, attempt: int) -> None:
        if self._is_cut:
            self._waiting = attempt
        else:
            super()._act_open(attempt)

    def _act_state(self, name: Any, detail: dict[str, Any]) -> None:
        super()._act_state(name, detail)
        if name == "connected":
            self.times += 1
            # The private channel begins with the first message to it.
            self._awaited = {key for key, inbox in self._inboxes.items() if inbox.channel != "@"}
        elif name == "waiting" and not self._let_in.done():
            # In a test nobody is there who could change the application's mind.
            self._let_in.set_exception(ConnectionClosed(detail["code"], detail["reason"]))

    def _act_begun(self, key: int, detail: dict[str, Any]) -> None:
        super()._act_begun(key, detail)
        self._awaited.discard(key)

    def _act_ended(self, key: int, reason: dict[str, Any]) -> None:
        super()._act_ended(key, reason)
        self._awaited.discard(key)


class Stage:
    """An application under test, its server, and its clients. It takes the place of the application."""

    def __init__(self, app: Umbel, settings: Options) -> None:
        self.shells: list[Shell] = []
        self._app = app
        self._users = 0
        self.path = folder(os.getpid()) / f"{next(Numbers)}"
        self._settings = app.settings.replace(**SETTINGS | settings | {"unix_socket": str(self.path)})
        self._server: Server | None = None
        self._identities: dict[str, Identity] = {}
        self._numbers = count(1)
        self._ahead = 0.0  # milliseconds

    def now(self) -> float:
        """The clock of the clients, in milliseconds."""
        return time.monotonic() * 1000 + self._ahead

    @classmethod
    async def of(cls, app: Umbel, settings: Options) -> "Stage":
        """Return the stage of an application, with one more user."""
        stage = Stages.get(app)
        if stage is None:
            stage = cls(app, settings)
            Stages[app] = stage
            stage._users += 1
            try:
                await stage._start()
            except BaseException:
                await stage.leave()
                raise
            return stage
        if settings:
            raise RuntimeError(
                "the server of this test has started already: give settings to its first client"
            )
        stage._users += 1
        return stage

    async def leave(self) -> None:
        """One user less. The last one stops the server."""
        self._users -= 1
        if not self._users:
            del Stages[self._app]
            await self._stop()

    def running(self) -> Server:
        if self._server is None:
            raise RuntimeError("the server of this test is not running any more")
        return self._server

    async def restart(self) -> None:
        await self._stop()
        await self._start()

    def advance(self, seconds: float) -> None:
        core = self.running()._core
        assert core is not None
        core.advance_clock(seconds)
        self._ahead += seconds * 1000
        for shell in list(self.shells):
            shell.look()

    def token_of(self, identity: Identity | str) -> str:
        """A token for this client. Each client has its own."""
        token = f"umbel.testing {next(self._numbers)}"
        self._identities[token] = Identity.of(identity)
        return token

    async def _start(self) -> None:
        server = Server(self, self._settings)
        await server.__aenter__()
        self._server = server

    async def _stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop(0)

    def _authenticate(self, request: Request) -> AuthenticateResult | Awaitable[AuthenticateResult]:
        identity = self._identities.get(request.token or "")
        if identity is not None:
            return identity
        if (auth := self._app._declared.auth) is not None:
            try:
                return auth.verify(request.token or "")
            except ValueError as error:
                raise Refused(reason=str(error)) from None
        function = self._app._declared.authenticate
        return function(request) if function else ANONYMOUS

    # What a server needs of an application

    @property
    def _declared(self) -> Declarations:
        return replace(self._app._declared, auth=None, authenticate=self._authenticate)

    def _claim(self, server: Server) -> None:
        self._app._claim(server)

    def _attach(self, core: Core, dispatcher: Dispatcher) -> None:
        self._app._attach(core, dispatcher)

    def _release(self, server: Server) -> None:
        self._app._release(server)

    def _forked(self) -> None:
        self._app._forked()


@cache
def folder(process: int) -> Path:
    """The place of the sockets of this process. It is made once, which takes as long as a server does."""
    path = tempfile.mkdtemp(prefix="umbel-")

    def remove() -> None:
        if os.getpid() == process:  # and not a child's
            shutil.rmtree(path, ignore_errors=True)

    atexit.register(remove)
    return Path(path)


async def until(condition: Callable[[], object], within: float = 5.0) -> None:
    """Wait until a condition is true.

    Args:
        condition: a function without arguments and effects. It is called every millisecond.
        within: seconds.

    Raises:
        TimeoutError: if it takes longer.
    """
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - nothing tells when it is true
            await asyncio.sleep(0.001)


Stages: Final[WeakKeyDictionary[Umbel, Stage]] = WeakKeyDictionary()
"""Of the applications that are under test now."""

Numbers: Final = count(1)
"""Of their sockets."""

SETTINGS: Final[Options] = {
    "shards": 1,
    "tick": 0.0,
    "heartbeat": 1e6,
    "reconnect_window": 0.0,
    "deflate": False,
    "serve_client": False,
}

LIMITS: Final = Limits(window=0.0, base=0.01, cap=0.1, useful=0.0, attempts=1_000_000)
"""Nobody waits for a test server, and it needs no mercy."""

"""The application: it declares, publishes, and is served."""

import logging
from collections.abc import Callable
from typing import Any, Final, Literal, NoReturn, Unpack, cast, final

from orjson import Fragment, dumps

from ._clients.history import History
from ._clients.state import Access, State
from ._core import Core, Position, Receipt, Stats
from ._declaring.decorators import Decorators
from ._declaring.jwt import JWT
from ._declaring.options import Options
from ._declaring.settings import Settings, check_names
from ._dispatching.dispatcher import Dispatcher
from ._dispatching.subjects import Subjects
from ._json import encode
from ._serving import lifetime, stderr
from ._serving.pages import client_script
from ._serving.process import Process
from ._serving.server import Server


@final
class Umbel(Decorators, Subjects):
    """A real-time application.

    First declare its functions with the decorators. Then serve it: with ``run``, which blocks, or with
    ``serve`` in a running event loop. An application has one server at a time. When that server has stopped,
    the application may be served again.

    All functions are called on one event loop, except those that are declared with ``thread=True``. They may
    be ``async`` or not. A function that is not ``async`` must not wait for anything, because the event loop
    waits with it: declare a function that blocks with ``thread=True``.

    Attributes:
        settings: the settings that were given, with defaults for the others.

    Example:
        >>> from umbel import Umbel
        >>> app = Umbel(tick=0.05)
        >>> news = app.channel("news:{topic}", open=True, history=100)
        >>> @app.on("ping")
        ... def ping(client, message):
        ...     return {"you_said": message.data}
    """

    def __init__(self, *, auth: JWT | None = None, **settings: Unpack[Options]) -> None:
        """Make an application without declarations.

        Args:
            auth: lets clients in by their JSON Web Tokens, instead of ``@app.authenticate``.
            **settings: fields of `Settings`.

        Raises:
            TypeError: if a setting does not exist or has the wrong type, or ``auth`` is no `JWT`.
            ValueError: if a setting is out of range.
        """
        check_names(settings)
        if not isinstance(auth, JWT | None):
            raise TypeError(f"auth must be a JWT, not {type(auth).__name__}: write auth=JWT(…)")
        super().__init__(Settings(**settings), auth)
        self._server: Server | None = None
        self._publish: Callable[[str, bytes, str | None, str | None], Receipt] = not_running
        self._states = Access(not_running, not_running)
        self._dispatcher: Dispatcher | None = None

    @property
    def client_script(self) -> str:
        """The path of the JavaScript client with its hash. Browsers keep that file for good."""
        return client_script().path

    # Publishing

    def publish(self, channel: str, data: Any, key: str | None = None, event: str | None = None) -> Receipt:
        """Append data to a channel. Every subscriber gets them with its next batch.

        May be called from any thread. Publications of one thread keep their order. The cost does not depend
        on the number of subscribers. A subscriber that keeps up gets everything, up to the setting
        ``burst_bytes`` at once. A subscriber that is more than a second behind gets what the history of the
        channel still has. A ``gap`` tells it what it does not get.

        Args:
            channel: a name of 1 to 255 bytes. A channel need not be created.
            data: what ``orjson.dumps`` accepts. NaN and infinities become ``null``. ``orjson.Fragment``
                passes JSON text through as it is; the text is checked when the fragment is all of the data. A
                fragment inside other data is not checked: one that is not JSON makes the whole batch
                unreadable for every subscriber.
            key: at most 255 bytes. In a channel with ``mode="latest"``, a reader that is behind gets only the
                newest publication of each key. With ``mode="state"`` it is required: see `State.set`.
            event: a name for it on event streams with ``?events=single``: at most 64 letters, digits and
                ``_-.:``. Other clients see it as ``event`` in the update.

        Returns:
            A receipt: ``await`` gives the position in the channel's log. You need not look at it. The broker
            in memory confirms at once: ``position`` is known when the call returns.

        Raises:
            TypeError: if the data can't be encoded as JSON. Nothing is published.
            ValueError: if the channel name is empty, too long, begins with ``@`` or ``$``, or has control
                characters; if the data have more than 16 MiB or the key more than 255 bytes; if the data
                have an integer beyond 64 bits, or are a fragment that is not JSON; if the event has another
                form or the name of an event of the protocol. Nothing is published.
            StateFull: if the channel has a state without room for it. Nothing is published.
            RuntimeError: if the application is not being served.
        """
        if type(data) is Fragment:
            text = encode(data)
        else:
            try:
                text = dumps(data)  # the call of `encode` would be a sixth of the whole
            except TypeError:
                text = encode(data)  # raises it in other words
        return self._publish(channel, text, key, event)

    def state(self, channel: str) -> State:
        """Return the state of a channel that is declared with ``mode="state"``: to set, remove and read its
        keys.

        Example:
            >>> from umbel import Umbel
            >>> app = Umbel()
            >>> app.channel("board:{id}", open=True, mode="state")
            <...>
            >>> @app.on("task_done")
            ... async def task_done(client, message):
            ...     board = app.state("board:1")
            ...     task = await board.get(message.data["task"])
            ...     if task is not None:
            ...         board.set(message.data["task"], {**task.data, "done": True})
        """
        return State(self._states, channel)

    async def wait_room(self, channel: str) -> None:
        """Wait until the subscribers of a channel have taken most of what was published.

        For a producer that is faster than any subscriber. Returns as soon as less than half of the setting
        ``burst_bytes`` waits for subscribers that keep up. Those that are more than a second behind do not
        count. Without subscribers it returns at once. A loop around it lets other functions run, too.

        May be called on any event loop.

        Raises:
            ValueError: if there can be no such channel.
            RuntimeError: if the application is not being served.

        Example:
            >>> from umbel import Umbel
            >>> app = Umbel()
            >>> @app.background
            ... async def replay():
            ...     for number in range(1_000_000):
            ...         app.publish("numbers", number)
            ...         await app.wait_room("numbers")
        """
        await self._running().wait_room(channel)

    # Asking

    async def history(self, channel: str, *, after: Position | None = None, limit: int = 100) -> History:
        """Return the publications that a channel still has, the oldest first.

        For a client that has just come, or for an application that goes on where it was. Without ``after``
        you get the newest ones. With ``after`` you get those that follow that position: ask again with the
        position of the last one until there are none.

        A channel keeps what its declaration says (``history``, ``history_bytes``, ``history_seconds``). What
        was published before the call is in the answer. A channel without a log has nothing, and asking does
        not make one. The cost is linear in what is returned. May be called on any event loop.

        Args:
            channel: its name.
            after: a position in this channel, from a receipt or from a publication.
            limit: how many publications at most, 1 to 10,000.

        Returns:
            The publications, and whether there is a gap between ``after`` and the first of them.

        Raises:
            ValueError: if there can be no such channel, or the limit is out of range.
            RuntimeError: if the application is not being served.

        Example:
            >>> from umbel import Umbel
            >>> app = Umbel()
            >>> @app.on("latest")
            ... async def latest(client, message):
            ...     history = await app.history("news", limit=10)
            ...     return [[it.timestamp, it.data] for it in history.publications]
        """
        if not 1 <= limit <= LONGEST_HISTORY:
            raise ValueError(f"limit must be 1 to {LONGEST_HISTORY}, not {limit}: ask again with after=")
        return self._running().history(channel, after, limit)

    async def position(self, channel: str) -> Position:
        """Return where a channel stands: the position of its newest publication.

        For a client that needs a state that the channel changes. Ask for the position first, then load the
        state, and give the client both. It subscribes with this position, so that it misses nothing that was
        published meanwhile. What was published between the two calls is in the state already and comes again
        as an update: updates that are applied twice must do no harm. If the position was asked for after the
        state, what was published in between would be lost.

        Asking makes the channel's log, if there is none. A log without publications and subscribers lives for
        a minute, if memory allows. May be called on any event loop.

        Raises:
            ValueError: if there can be no such channel.
            RuntimeError: if the application is not being served.

        Example:
            >>> from umbel import Umbel
            >>> app = Umbel()
            >>> @app.on("open_board")
            ... async def open_board(client, message):
            ...     position = await app.position("board")
            ...     state = {"cards": []}  # from your database
            ...     return {"state": state, "epoch": position.epoch, "offset": position.offset}
        """
        return self._running().position(channel)

    def subscribers(self, channel: str) -> int:
        """Return how many clients are subscribed to a channel now.

        A client counts from its ``subscription_established`` until its ``subscription_ended`` or the end of
        its connection. Asking makes no channel. May be called from any thread. The cost does not depend on
        the number.

        Raises:
            ValueError: if there can be no such channel.
            RuntimeError: if the application is not being served.
        """
        return self._running().subscribers(channel)

    def stats(self) -> Stats:
        """Return a snapshot of the counters of the server, however the application is served.

        May be called from any thread. Costs some microseconds, whatever the number of clients and channels.

        Raises:
            RuntimeError: if the application is not being served. ``server.stats()`` returns the last snapshot
                after the stop.

        Example:
            >>> import asyncio
            >>> from umbel import Umbel
            >>> app = Umbel()
            >>> @app.background
            ... async def watch():
            ...     while True:
            ...         await asyncio.sleep(60)
            ...         print(app.stats())
        """
        server = self._server  # another thread may stop it meanwhile
        if server is None:
            not_running("")
        return server.stats()

    # Serving

    def serve(self, **settings: Unpack[Options]) -> Server:
        """Return a server for the running event loop: ``async with app.serve(port=0) as server``.

        Args:
            **settings: fields of `Settings` that replace those of the application.

        Raises:
            TypeError: if a setting does not exist or has the wrong type.
            ValueError: if a setting is out of range.
        """
        return Server(self, self.settings.replace(**settings))

    async def start(self, **settings: Unpack[Options]) -> Server:
        """Serve in the running event loop until ``await server.stop()``. For a notebook or a REPL.

        In a program use ``async with app.serve(…)``, which can't be left without stopping.

        Args:
            **settings: fields of `Settings` that replace those of the application.

        Raises:
            ConfigurationError: if a declaration of the application is incomplete.
            OSError: if the address can't be bound.
            RuntimeError: if the application is being served.
            TypeError: if a setting does not exist or has the wrong type.
            ValueError: if a setting is out of range, or the certificate or key can't be used.
        """
        return await self.serve(**settings).__aenter__()

    def run(
        self,
        *,
        uvloop: bool | None = None,
        log_format: Literal["text", "json"] | None = None,
        **settings: Unpack[Options],
    ) -> None:
        """Serve until SIGINT or SIGTERM, then stop gracefully. Blocks.

        The first signal begins the stop, which takes at most the setting ``drain``. A second signal ends it
        at once, a third ends the process. Signals are handled only when this is the main thread. A signal
        that is ignored when ``run`` begins stays ignored; a shell ignores SIGINT for jobs that a script
        starts in the background.

        In a module that the command ``umbel run`` imports, it does nothing but say so: the command serves.

        When logging is not configured, the log goes to stderr. A thread of its own writes it, so that the
        server never waits for it: when nobody reads stderr or the disk is full, lines are dropped and counted
        in ``stats().log_lines_dropped``. A logging handler of your own that blocks also blocks the event
        loop. ``print`` does so, too. With level DEBUG the log shows the life of each connection: opened, let
        in, subscribed, closed.

        Args:
            uvloop: whether to use the event loop of uvloop; by default if it is installed.
            log_format: ``"json"`` for a line of JSON for each event, as `umbel.logs.JsonFormatter` makes it.
            **settings: fields of `Settings` that replace those of the application.

        Raises:
            ConfigurationError: if a declaration of the application is incomplete, or ``log_format`` is given
                and the application has configured logging itself.
            OSError: if the address can't be bound.
            ValueError: if a setting is out of range, or the certificate or key can't be used.
            TypeError: if a setting does not exist or has the wrong type.
            RuntimeError: if this thread runs an event loop, or the application is being served.
        """
        if Process.importing:
            stderr.handler().say(logging.INFO, RUN_TWICE)
            return
        Process(self.serve(**settings), uvloop=uvloop, log_format=log_format).run()

    # Called by the server

    def _claim(self, server: Server) -> None:
        if self._server is not None:
            raise RuntimeError(
                "this application is being served; stop that server first, or make another application"
            )
        self._declared.check_paths(server.settings)
        self._server = server
        self._declared.served = True

    def _running(self) -> Dispatcher:
        dispatcher = self._dispatcher  # another thread may stop the server meanwhile
        if dispatcher is None:
            not_running("")
        return dispatcher

    def _attach(self, core: Core, dispatcher: Dispatcher) -> None:
        # Bound once: publish() is the hot path, and a check there would cost a tenth of it.
        self._publish = core.publish
        self._states.use(core)
        self._dispatcher = dispatcher

    def _release(self, server: Server) -> None:
        if self._server is server:
            self._server = None
            self._declared.served = False
            self._publish = not_running
            self._states.end(not_running)
            self._dispatcher = None

    def _forked(self) -> None:
        self._publish = lifetime.forked_core
        self._states.end(lifetime.forked_core)
        self._dispatcher = cast(Dispatcher, lifetime.ForkedCore())


def not_running(*arguments: Any) -> NoReturn:
    """Takes the place of the core's ``publish`` while there is no core.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(
        "the application is not being served: publish from its functions, from a background task "
        "(@app.background), or inside `async with app.serve(…)`"
    )


LONGEST_HISTORY: Final = 10_000

RUN_TWICE: Final = (
    "run() does nothing here, because the command `umbel run` serves this application. "
    "Its settings are not used: give them to Umbel(), or as options of the command"
)

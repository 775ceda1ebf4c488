"""The demo as an application, and its command line."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from umbel import Client, Message, Request, Run, Server, Stats, Umbel, WebSocket, __version__

from .ai import Endpoint, EndpointError, Stream, built_in
from .board import add_board
from .load import SPARE, Load, affordable
from .slow import BYTES_PER_SECOND, Relay
from .sources import sources


class Demo:
    """Everything the page shows and controls.

    Attributes:
        app: the application to serve.
        server: the running server. What serves the application sets it.
        rate: publications per second on ``demo:load``.
    """

    def __init__(
        self, *, rate: float = 50.0, descriptors: int = 1024, proc: Path = Path("/proc"), **settings: Any
    ) -> None:
        self.rate = rate
        self.server: Server | None = None
        self.sources = sources()
        self.endpoint = Endpoint.from_environment()
        self._proc = proc
        self._relays = 0
        connections = min(MOST_CONNECTIONS, max(100, descriptors - SPARE // 2))
        self.app = app = Umbel(max_connections=connections, max_runs=4, **settings)
        for source in self.sources:
            app.channel(source.channel, open=True, mode=source.mode, history=512, history_seconds=KEPT)
        app.channel(LOAD, open=True, history=512, history_seconds=KEPT)
        app.channel(STATS, open=True, mode="latest", history=64)
        add_board(app)
        channels = [source.channel for source in self.sources] + [LOAD]
        self.load = Load(affordable(descriptors, connections - 50), channels)
        for file in WEB.iterdir():
            app.page("/" if file.name == "index.html" else f"/{file.name}", file)
        app.background(self.measure)
        app.background(self.publish_load)
        app.background(self.publish_stats)
        app.authenticate(self.identify)
        app.on("demo_info")(self.on_info)
        app.on("clock")(self.on_clock)
        app.on("set_rate")(self.on_rate)
        app.on("add_subscribers")(self.on_add)
        app.on("remove_subscribers")(self.on_remove)
        app.stream("ai_chat_request")(self.answer)
        app.websocket("/slow")(self.slow)

    # What is published

    async def measure(self) -> None:
        """Publish what this machine measures."""
        turn = 0
        async for now in pace(lambda: READINGS_PER_SECOND):
            turn += 1
            for source in self.sources:
                readings = source.sample(self._proc, now)
                # On a machine with many cores they take turns, so that the page can keep up.
                every = 1 + len(readings) // MOST_READINGS
                for reading in readings[turn % every :: every]:
                    self.app.publish(source.channel, reading.data | {"at": millis()}, reading.key)

    async def publish_load(self) -> None:
        """Publish as many small updates as the slider says."""
        number = 0
        async for _ in pace(lambda: self.rate):
            number += 1
            self.app.publish(LOAD, {"n": number, "at": millis()})

    async def publish_stats(self) -> None:
        """Publish the server's counters, and what they say about the last second or two."""
        assert self.server is not None
        window: deque[tuple[float, float, Stats]] = deque(maxlen=int(STATS_PER_SECOND * 2) + 1)
        async for now in pace(lambda: STATS_PER_SECOND):
            window.append((now, time.process_time(), self.server.stats()))
            if len(window) > 1:
                self.app.publish(STATS, self.report(window), "stats")

    def report(self, window: Sequence[tuple[float, float, Stats]]) -> dict[str, Any]:
        """Make one report of the oldest and the newest snapshot."""
        (then, cpu_then, old), (now, cpu_now, new) = window[0], window[-1]
        seconds = now - then
        counters = ("published", "frames", "delivered", "bytes_sent", "gaps", "lost")
        gauges = ("connections", "subscriptions", "channels", "blocked", "panics")
        return {
            "at": millis(),
            "totals": {name: getattr(new, name) for name in counters},
            "rates": {
                name: round((getattr(new, name) - getattr(old, name)) / seconds, 1) for name in counters
            },
            "gauges": {name: getattr(new, name) for name in gauges},
            "lateness": [round(new.lateness(quantile, old) * 1000, 2) for quantile in (0.5, 0.95, 0.99)],
            "cpu": round((cpu_now - cpu_then) / seconds, 3),
            "load": self.rate,
            "crowd": self.load.totals() | {"wanted": self.load.wanted},
        }

    # What the page asks for

    def identify(self, request: Request) -> str:
        """Let everybody in. A page names itself: its answers are its own."""
        return (request.token or "crowd")[:64]

    def on_info(self, client: Client, message: Message) -> dict[str, Any]:
        """Tell what does not change."""
        assert self.server is not None
        missing = {source.channel: source.missing(self._proc) for source in self.sources}
        return {
            "version": __version__,
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "sources": {source.channel: source.mode for source in self.sources},
            "missing": {channel: reason for channel, reason in missing.items() if reason},
            "readings": READINGS_PER_SECOND,
            "tick": self.server.settings.tick * 1000,
            "limit": self.load.limit,
            "limitReason": self.load.reason,
            "slow": BYTES_PER_SECOND,
            "rates": [LOWEST_RATE, HIGHEST_RATE],
            "ai": self.endpoint.model if self.endpoint else None,
            "aiHost": urlsplit(self.endpoint.url).hostname if self.endpoint else None,
        }

    def on_clock(self, client: Client, message: Message) -> float:
        """Tell the time, so that the page can measure lateness on another machine too."""
        return millis()

    def on_rate(self, client: Client, message: Message) -> float:
        """Set the rate of ``demo:load``."""
        rate = message.data
        if not isinstance(rate, int | float) or isinstance(rate, bool):
            raise ValueError("set_rate wants data: a number")
        self.rate = float(min(max(rate, LOWEST_RATE), HIGHEST_RATE))
        return self.rate

    async def on_add(self, client: Client, message: Message) -> dict[str, Any]:
        """Add a thousand simulated subscribers."""
        assert self.server is not None
        added = await self.load.add(self.server.url)
        return {"added": added, "wanted": self.load.wanted, "reason": None if added else self.load.reason}

    async def on_remove(self, client: Client, message: Message) -> dict[str, Any]:
        """Remove them all."""
        await self.load.remove()
        return {"wanted": self.load.wanted}

    async def answer(self, run: Run, message: Message) -> AsyncIterator[str]:
        """Answer a question: by the model of the endpoint, or by built-in text that says so."""
        data = message.data if isinstance(message.data, dict) else {}
        prompt = str(data.get("prompt", ""))[:LONGEST_PROMPT]
        if self.endpoint is None:
            async for piece in built_in(prompt):
                yield piece
            return
        try:
            async for piece in Stream(self.endpoint, prompt).pieces():
                yield piece
        except EndpointError as error:
            yield f"\n[No answer from {self.endpoint.url}: {error}]"

    async def slow(self, websocket: WebSocket) -> None:
        """Put a slow reader between a page and this server."""
        assert self.server is not None
        if self._relays >= MOST_RELAYS:
            websocket.close(1013, "enough pages read slowly already")
            return
        address = urlsplit(self.server.url)
        self._relays += 1
        try:
            host, port = address.hostname or "127.0.0.1", address.port or 80
            await Relay(websocket, host, port).run()
        finally:
            self._relays -= 1


async def pace(rate: Any) -> AsyncIterator[float]:
    """Give the time so many times a second, several times in a row when the loop was late.

    Args:
        rate: called each time, so that it may change.
    """
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        now = loop.time()
        due = max(due, now - LATEST)
        while due <= now:
            yield now
            due += 1 / rate()
        await asyncio.sleep(min(max(due - loop.time(), SHORTEST_SLEEP), LATEST))
        due = min(due, loop.time() + 1 / rate())  # the rate rose meanwhile


def millis() -> float:
    """Return milliseconds since the epoch."""
    return round(time.time() * 1000, 2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the demo until SIGINT or SIGTERM; return the exit code."""
    from umbel._serving.causes import explain
    from umbel._serving.process import Process, raise_descriptors

    parser = argparse.ArgumentParser(
        prog="umbel demo", description="Serve a page that shows, live, this machine and what Umbel does."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--allowed-hosts",
        action="append",
        default=[],
        metavar="HOST",
        help="name by which browsers on other machines reach it; once for each",
    )
    parser.add_argument("--port", type=int, default=8000, help="0 for a free one (default: %(default)s)")
    parser.add_argument("--shards", type=int, default=0, help="threads that serve; 0 for one per core")
    parser.add_argument("--tick", type=float, default=0.016, help="seconds (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=50.0, help="publications per second at the start")
    try:
        parsed = parser.parse_args(arguments)
    except SystemExit as end:  # argparse has printed what was wrong
        return end.code if isinstance(end.code, int) else 2
    try:
        raise_descriptors(0)
        demo = Demo(
            rate=min(max(parsed.rate, LOWEST_RATE), HIGHEST_RATE),
            descriptors=descriptors(),
            host=parsed.host,
            allowed_hosts=parsed.allowed_hosts,
            port=parsed.port,
            shards=parsed.shards,
            tick=parsed.tick,
            drain=2.0,
            send_buffer=SEND_BUFFER,
        )
        demo.server = demo.app.serve()
        Process(demo.server, listening=welcome).run()
    except OSError as error:
        sys.stderr.write(f"umbel: {explain(error, demo.app.settings)}\n")
        return 1
    except (TypeError, ValueError, RuntimeError) as error:
        sys.stderr.write(f"umbel: {error}\n")
        return 1
    return 0


def welcome(server: Server) -> None:
    """Say what to do."""
    url = server.url.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
    model = "" if Endpoint.from_environment() else " Built-in text answers: set OPENAI_BASE_URL for a model."
    with contextlib.suppress(OSError):  # nobody reads it
        sys.stdout.write(
            f"\n  Umbel {__version__} demo:  {url}\n\n"
            "  Open it in a browser. The plots are this machine, live.\n"
            '  Press "Add 1,000 subscribers", then move the slider and watch batches grow.\n'
            '  Press "Make this page a slow reader" and watch what is folded and what is announced as lost.\n'
            f"  Ask a question and watch the answer stream.{model}\n"
            "  Cut off one side of the task board, change a task on both sides, and bring it back.\n\n"
            "  Ctrl-C ends it.\n\n"
        )
        sys.stdout.flush()


def descriptors() -> int:
    """Return how many descriptors this process may have."""
    try:
        import resource
    except ImportError:  # not on Windows
        return 1024
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else soft


WEB: Final = Path(__file__).with_name("web")

KEPT: Final = 1.5
"""Seconds of history: enough for a page that changes its connection, soon too little for a slow reader."""

LOAD: Final = "demo:load"
STATS: Final = "demo:stats"

LOWEST_RATE: Final = 1
HIGHEST_RATE: Final = 2000
"""Publications per second on ``demo:load``."""

READINGS_PER_SECOND: Final = 30
"""Per source: as often as an eye sees."""

MOST_READINGS: Final = 16
"""Publications of one source per round."""

STATS_PER_SECOND: Final = 5.0

MOST_CONNECTIONS: Final = 10_300
"""Ten thousand simulated subscribers, and pages."""

SEND_BUFFER: Final = 4 << 10
"""Bytes that the kernel holds per connection, half of what it then takes. By default it takes megabytes, in
which a slow reader would hide for minutes before the server sees it."""

MOST_RELAYS: Final = 8

LONGEST_PROMPT: Final = 2000
"""Characters."""

SHORTEST_SLEEP: Final = 0.004
"""Seconds between two rounds; a quarter of a tick, so that a batch holds what the rate promises."""

LATEST: Final = 0.25
"""Seconds of missed rounds that are made up for, and after which a new rate counts at the latest."""

__all__ = ["Demo", "main"]

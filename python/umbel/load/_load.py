"""Runs a load."""

import asyncio
import json
import resource
import threading
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any, Final, final

from umbel._core import Load as Core

from . import _metrics
from ._config import LoadConfig
from ._results import LoadResults, Snapshot, results

LONGEST: Final = 10_000
"""Lines of a conversation that are kept for whoever asks."""

PAUSE: Final = 0.1
"""Seconds between two looks at how far it is."""


class LoadError(Exception):
    """Nothing could be measured. The message says what this machine or the server lacks."""


@final
class Load:
    """A load, to be run once. It works in a thread of its own, without the interpreter.

    Example:
        >>> from umbel.load import Load, LoadConfig
        >>> config = LoadConfig(target="ws://127.0.0.1:8000/ws", target_connections=1000, rate=50)
        >>> results = Load(config).run()  # doctest: +SKIP
        >>> assert results.latency.p95 < 100  # doctest: +SKIP

        In a coroutine, with a look at each second::

            load = Load(config)
            async for second in load:
                print(second.open, second.latency_p95)
            results = await load
    """

    def __init__(self, config: LoadConfig) -> None:
        """Open nothing yet."""
        self._config = config
        self._core = Core(json.dumps(config.core()))
        self._thread = threading.Thread(target=self._work, name="umbel-load", daemon=True)
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._rows: list[Snapshot] = []
        self._conversation: list[str] = []
        self._said: dict[str, Any] | None = None
        self._error: BaseException | None = None
        self._memory: tuple[int | None, int | None] = (None, None)
        self._counters: dict[str, float] | None = None

    def start(self) -> None:
        """Begin. Nothing happens if it has begun."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """End it soon, from any thread. The results are what was seen until then."""
        self._core.stop()

    def snapshots(self) -> list[Snapshot]:
        """What happened so far, one entry for each second."""
        self._learn()
        return list(self._rows)

    def conversation(self) -> list[str]:
        """What the connection, its publishers and the server have said since this was last called, with
        ``verbose``: a line for each message, cut at 200 characters, and without tokens.
        """
        self._learn()
        with self._lock:
            said, self._conversation = self._conversation, []
        return said

    def run(self) -> LoadResults:
        """Do all of it, and wait for the end.

        Raises:
            LoadError: if nothing could be measured.
        """
        self.start()
        try:
            while not self.wait(PAUSE):
                pass
        except BaseException:  # Ctrl-C
            self.stop()
            raise
        return self._results()

    def wait(self, timeout: float) -> bool:
        """Wait for the end, at most so many seconds. Returns whether it has ended."""
        self._look()
        return self._ended.wait(timeout)

    def __await__(self) -> Generator[Any, None, LoadResults]:
        """Do all of it, and wait for the end in a coroutine. Cancelling stops the load."""
        return self._wait().__await__()

    async def __aiter__(self) -> AsyncIterator[Snapshot]:
        """Begin, and give what happened in each second until the end. Cancelling stops the load; leaving the
        loop does not.
        """
        self.start()
        given = 0
        try:
            while True:
                is_over = self._ended.is_set()
                self._look()
                rows = self.snapshots()
                for row in rows[given:]:
                    yield row
                given = len(rows)
                if is_over:
                    return
                await asyncio.sleep(PAUSE)
        except asyncio.CancelledError:
            self.stop()
            raise

    async def _wait(self) -> LoadResults:
        async for _ in self:
            pass
        return self._results()

    def _work(self) -> None:
        try:
            allow_files(self._config.target_connections)
            before = self._count()
            self._said = json.loads(self._core.run())
            try:
                self._counters = _metrics.since(before, self._count())
            except OSError as error:  # the server may have gone away; what was seen of it stays
                self._said["faults"][str(error)] = 1
        except Exception as error:  # it is raised where somebody waits
            self._error = error
        finally:
            self._ended.set()

    def _count(self) -> dict[str, float]:
        config = self._config
        return _metrics.read(config.metrics, config.metrics_token, config.ca) if config.metrics else {}

    def _look(self) -> None:
        """Note the memory of the server before and after the connections were opened."""
        if self._config.pid is None:
            return
        first, last = self._memory
        if first is None:
            first = memory(self._config.pid)
        if self._learn() in {"rampUp", "ready", "warmUp"}:
            last = memory(self._config.pid)
        self._memory = (first, last)

    def _learn(self) -> str:
        """Take the seconds that are not known yet. Returns the stage."""
        with self._lock:  # of two threads, the second one has them from the first
            progress: dict[str, Any] = json.loads(self._core.progress(len(self._rows)))
            self._rows += [Snapshot.of(row) for row in progress["rows"]]
            if self._config.verbose:
                self._conversation = (self._conversation + progress["conversation"])[-LONGEST:]
        return str(progress["stage"])

    def _results(self) -> LoadResults:
        if self._said is None:
            raise LoadError(str(self._error)) from self._error
        first, last = self._memory
        grown = last - first if first is not None and last is not None else None
        return results(self._config, self._said, self.snapshots(), grown, self._counters or {})


def allow_files(connections: int) -> None:
    """Let this process open as many files as it may, if it needs them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_FILES
    if soft < wanted and soft != resource.RLIM_INFINITY:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (min(wanted, hard) if hard != resource.RLIM_INFINITY else wanted, hard)
        )


def memory(pid: int) -> int | None:
    """Bytes that a process has allocated and touched. None when there is none, or it can't be looked at."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:")), None)


SPARE_FILES: Final = 200
"""Files of the rest of this process."""

"""Standard error, written by a thread of its own: nothing else waits for whoever reads it."""

import functools
import logging
import os
import select
import sys
import threading
import traceback
from collections import deque
from typing import Final


class StderrHandler(logging.Handler):
    """Writes lines to standard error, in their order. It neither blocks nor raises.

    Lines wait while nobody reads. When `MOST_WAITING` bytes wait, further ones are dropped, as are those
    that can't be written because the pipe is closed or the disk full. In their place a line says how many
    they were, as soon as there is somebody to read it.

    Attributes:
        dropped: lines dropped since the start of the process.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self.dropped = 0
        assert self.lock is not None
        # Guards what follows. It is the lock that `logging` takes for `emit`, and makes anew in a child.
        self._changed = threading.Condition(self.lock)
        self._queue: deque[bytes | int] = deque()  # lines, and in place of those dropped their number
        self._waiting = 0  # bytes in the queue
        self._busy = False
        self._process: int | None = None  # where the thread runs
        self._torn = False  # the thread's own: what was written last is the beginning of a line

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or what is wrong with it."""
        try:
            text = self.format(record)
        except Exception:
            text = f"{record.pathname}:{record.lineno} logs what has no text: {traceback.format_exc()}"
        self.write(text)

    def write(self, text: str) -> None:
        """Write a line. From any thread, and from signal handlers."""
        line = f"{text}\n".encode(errors="backslashreplace")
        with self._changed:
            process = os.getpid()
            if process != self._process:
                # At once, for a signal handler that logs meanwhile must not start another.
                before, self._process = self._process, process
                self._start(forked=before is not None)
            if self._waiting < MOST_WAITING:
                self._queue.append(line)
                self._waiting += len(line)
            else:
                self.dropped += 1
                last = self._queue[-1]
                if isinstance(last, int):
                    self._queue[-1] = last + 1
                else:
                    self._queue.append(1)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until everything is written, or `FLUSH_TIME` is over."""
        with self._changed:
            if self._process == os.getpid():
                self._changed.wait_for(lambda: not self._queue and not self._busy, FLUSH_TIME)

    def _start(self, forked: bool) -> None:
        if forked:  # the parent has the thread, and writes the lines
            self._queue.clear()
            self._waiting = 0
            self._busy = False
        try:
            threading.Thread(target=self._run, name="umbel-stderr", daemon=True).start()
        except RuntimeError:  # there can be no more threads: the next line tries again
            self._process = None

    def _run(self) -> None:
        lost = 0
        while True:
            entry = self._take()
            if isinstance(entry, int):
                lost += entry
            if lost and self._written(LOST.format(lost).encode()):
                lost = 0
            if isinstance(entry, bytes) and (lost or not self._written(entry)):
                lost += 1
                with self._changed:
                    self.dropped += 1

    def _take(self) -> bytes | int:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._queue)
            self._busy = True
            entry = self._queue.popleft()
            if isinstance(entry, bytes):
                self._waiting -= len(entry)
            return entry

    def _written(self, line: bytes) -> bool:
        """Write a line, however long that takes; whether it could be done."""
        stream = sys.stderr
        try:
            try:
                descriptor = stream.fileno()
            except (AttributeError, OSError):  # one that somebody has put there, and no file
                stream.write(line.decode())
                stream.flush()
            else:
                # Past the stream's buffer: waiting with its lock would make the interpreter abort at the end.
                self._write_all(descriptor, b"\n" + line if self._torn else line)
        except Exception:
            return False
        return True

    def _write_all(self, descriptor: int, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
                self._torn = len(rest) > 0
            except BlockingIOError:  # whoever has the other end made it so
                poll = select.poll()
                poll.register(descriptor, select.POLLOUT)
                poll.poll()


@functools.cache
def handler() -> StderrHandler:
    """Return the one of this process."""
    return StderrHandler()


MOST_WAITING: Final = 1 << 20
"""Bytes of lines that wait to be written: some thousand lines, or a hundred long tracebacks."""

FLUSH_TIME: Final = 0.5
"""Seconds to wait for whoever reads the log: when the server has stopped, and when the process ends."""

LOST: Final = "{} log lines were dropped here: nobody read them, or they could not be written\n"

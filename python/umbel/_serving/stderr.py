"""Standard error, written by a thread of its own. Nothing else waits for its reader."""

import functools
import logging
import os
import select
import sys
import threading
import traceback
from collections import deque
from typing import Final, Literal

from umbel.logs import JsonFormatter

LogFormat = Literal["text", "json"]

MOST_WAITING: Final = 1 << 20
"""Bytes of lines that wait to be written: some thousand lines, or a hundred long tracebacks."""


class StderrHandler(logging.Handler):
    """Writes lines to standard error, in their order. It does not block and does not raise.

    Lines wait while nobody reads. When `MOST_WAITING` bytes wait, further lines are dropped; those of DEBUG
    when half as many wait. A line is also
    dropped when it can't be written, because the pipe is closed or the disk is full. In place of dropped
    lines, one line says how many they were, as soon as it can be written.

    Attributes:
        dropped: lines dropped since the start of the process.
    """

    def __init__(self) -> None:
        super().__init__()
        self.use("text")
        self.dropped = 0
        assert self.lock is not None
        # Guards the fields below. It is the lock that `logging` takes for `emit`, and makes anew in a child.
        self._changed = threading.Condition(self.lock)
        self._queue: deque[bytes | int] = deque()  # lines, and the numbers of those dropped between them
        self._waiting = 0  # bytes in the queue
        self._busy = False
        self._process: int | None = None  # where the thread runs
        self._torn = False  # only the thread uses it: the last line was written in part

    def use(self, form: LogFormat) -> None:
        """Write further records as text for people, or as lines of JSON for programs."""
        text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
        self.setFormatter(text if form == "text" else JsonFormatter())

    def say(self, level: int, text: str) -> None:
        """Write a line that is not from a logger: as it is, or as a line of JSON where those are written."""
        self.write(self._line(level, text))

    def _line(self, level: int, text: str) -> str:
        if isinstance(self.formatter, JsonFormatter):
            return self.formatter.format(logging.LogRecord("umbel", level, "", 0, text, None, None))
        return text

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; if it can't be formatted, what is wrong with it."""
        try:
            text = self.format(record)
        except Exception:
            text = f"{record.pathname}:{record.lineno} logs what has no text: {traceback.format_exc()}"
            text = self._line(record.levelno, text)
        self.write(text, MOST_WAITING // 2 if record.levelno == logging.DEBUG else MOST_WAITING)

    def write(self, text: str, room: int = MOST_WAITING) -> None:
        """Write a line, if fewer bytes wait. May be called from any thread and from signal handlers."""
        line = f"{text}\n".encode(errors="backslashreplace")
        with self._changed:
            process = os.getpid()
            if process != self._process:
                # Set at once: a signal handler that logs meanwhile must not start another thread.
                before, self._process = self._process, process
                self._start(forked=before is not None)
            if self._waiting < room:
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
        if forked:  # the thread is in the parent, which writes the lines
            self._queue.clear()
            self._waiting = 0
            self._busy = False
        try:
            threading.Thread(target=self._run, name="umbel-stderr", daemon=True).start()
        except RuntimeError:  # no more threads are possible: the next line tries again
            self._process = None

    def _run(self) -> None:
        lost = 0
        while True:
            entry = self._take()
            if isinstance(entry, int):
                lost += entry
            if lost and self._written(f"{self._line(logging.WARNING, LOST.format(lost))}\n".encode()):
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
        """Write a line, however long it takes. Returns whether it was written."""
        stream = sys.stderr
        try:
            try:
                descriptor = stream.fileno()
            except (AttributeError, OSError):  # the application has put something there that is not a file
                stream.write(line.decode())
                stream.flush()
            else:
                # Not through the stream's buffer: the interpreter aborts if its lock is held at the end.
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
            except BlockingIOError:  # a program that shares the descriptor has made it non-blocking
                poll = select.poll()
                poll.register(descriptor, select.POLLOUT)
                poll.poll()


@functools.cache
def handler() -> StderrHandler:
    """Return the handler of this process."""
    return StderrHandler()


FLUSH_TIME: Final = 0.5
"""Seconds to wait for the reader of the log: when the server has stopped, and when the process ends."""

LOST: Final = "{} log lines were dropped here: nobody read them, or they could not be written"

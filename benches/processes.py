"""Child processes on cores of their own, and the lines that they write."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class BenchError(Exception):
    """A measurement that could not be made, or whose result is not valid."""


class Lines:
    """Reads a pipe's lines in a thread, so that waiting for one has a time limit."""

    def __init__(self, pipe: Any, name: str) -> None:
        self.all: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._name = name
        threading.Thread(target=self._read, args=(pipe,), daemon=True).start()

    def _read(self, pipe: Any) -> None:
        with pipe:
            for line in pipe:
                self.all.append(line.rstrip("\n"))
                self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def next(self, timeout: float) -> str:
        try:
            line = self._queue.get(timeout=timeout)
        except queue.Empty:
            raise BenchError(f"{self._name}: nothing for {timeout} s") from None
        if line is None:
            raise BenchError(f"{self._name} ended: {' | '.join(self.all[-3:])}")
        return line

    def wait(self, wanted: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self.next(max(0.0, deadline - time.monotonic())) != wanted:
            pass


class Process:
    """A child process on one core, with its lines."""

    def __init__(
        self, command: list[str], core: int, name: str, environment: dict[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=HERE / "servers",
            env=os.environ | (environment or {}),
        )
        self.pid = self._process.pid
        self.out = Lines(self._process.stdout, name)
        self.errors = Lines(self._process.stderr, name)
        self.name = name

    def write(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BenchError(f"{self.name} ended: {' | '.join(self.errors.all[-5:])}") from None

    def end(self) -> None:
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

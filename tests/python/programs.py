"""Programs under test: started in a process of their own, waited for, and always ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PYTHON_PATH = Path(__file__).parents[2] / "python"


class Program:
    """A running program; `url` is where it listens."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    @property
    def url(self) -> str:
        """Wait until it listens."""
        return self.wait_line("listening on ").rpartition("listening on ")[2].strip()

    def wait_line(self, text: str) -> str:
        """Read standard error until a line contains a text."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} never came:\n{''.join(self.lines)}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        return self.end()

    def end(self) -> int:
        """Wait for the end, and return the exit code."""
        assert self.process.stderr is not None
        self.lines += self.process.stderr.readlines()
        return self.process.wait(20)

    @property
    def output(self) -> str:
        return "".join(self.lines)


def interruptible(*command: str) -> list[str]:
    """A command that SIGINT interrupts, even where SIGINT is ignored, as in a job that a shell runs in the
    background. Programs inherit that.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        return list(command)
    return [sys.executable, "-c", WITH_SIGINT.format("SIG_DFL"), *command]


@contextmanager
def started(*arguments: str, cwd: Path | None = None) -> Iterator[Program]:
    """Start Python with arguments."""
    environment = {**os.environ, "PYTHONPATH": str(PYTHON_PATH), "PYTHONWARNINGS": "error"}
    process = subprocess.Popen(
        interruptible(sys.executable, *arguments), stderr=subprocess.PIPE, text=True, cwd=cwd, env=environment
    )
    try:
        yield Program(process)
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


WITH_SIGINT = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.{}); os.execv(sys.argv[1], sys.argv[1:])"
)
"""Becomes the program that the arguments name."""

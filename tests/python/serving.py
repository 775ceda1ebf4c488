"""Servers as processes, for tests that need a socket: start, wait until ready, stop, look inside."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

ROOT: Final = pathlib.Path(__file__).resolve().parents[2]

READY: Final = 20.0
"""Seconds that a server may take to say where it listens, on a machine that is busy with other things."""

STOPPED: Final = 20.0
"""Seconds that a server may take to end after SIGTERM."""


class Server:
    """One server process. Use it as a context manager: leaving it sends SIGTERM and expects exit status 0."""

    def __init__(self, *command: str | os.PathLike[str], environment: dict[str, str] | None = None) -> None:
        self.command = [os.fspath(word) for word in command]
        self.lines: list[str] = []
        self._arrived = threading.Condition()
        self.process = subprocess.Popen(
            self.command,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()
        self.host, self.port = "", 0

    def _collect(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self._arrived:
                    self.lines.append(line.rstrip("\n"))
                    self._arrived.notify_all()
        with self._arrived:
            self.process.wait()
            self._arrived.notify_all()

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def url(self, path: str = "/ws", scheme: str = "ws") -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}{path}"

    def wait_line(self, pattern: str, seconds: float = READY) -> re.Match[str]:
        """Wait until a line of the output matches."""
        with self._arrived:
            found: re.Match[str] | None = None

            def search() -> bool:
                nonlocal found
                found = next(filter(None, (re.search(pattern, line) for line in self.lines)), None)
                return found is not None or self.process.returncode is not None

            self._arrived.wait_for(search, seconds)
        assert found, (
            f"no line like {pattern!r} from {self.command} (status {self.process.poll()}):\n{self.output}"
        )
        return found

    def wait_ready(self) -> Server:
        """Wait until the server has said where it listens and ``/healthz`` answers 200."""
        found = self.wait_line(r"listening on https?://(\[[^\]]+\]|[^:/\s]+):(\d+)")
        self.host, self.port = found[1].strip("[]"), int(found[2])
        wait_until(lambda: http_status(self.address, "/healthz") == 200, "GET /healthz answers 200", READY)
        return self

    def stop(self) -> int:
        """Send SIGTERM and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOPPED)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(
                    f"SIGTERM did not end the server in {STOPPED} s:\n{self.output}"
                ) from None
        self._reader.join(5)
        return self.process.returncode

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        ended = self.process.poll()
        status = self.stop()
        if kind is None:
            assert ended is None, f"the server ended by itself with status {ended}:\n{self.output}"
            assert status == 0, f"the server ended with status {status} after SIGTERM:\n{self.output}"

    # What the operating system knows about the process.

    def resident(self) -> int:
        """Bytes of memory that the process occupies now."""
        return self._status("VmRSS")

    def address_space(self) -> int:
        """Bytes of addresses that the process has mapped, which is what ``RLIMIT_AS`` bounds."""
        return self._status("VmSize")

    def peak(self) -> int:
        """Bytes of memory that it occupied at most since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        pathlib.Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def connections(self) -> int:
        """Count the connections that the server has not closed, and those that it has not yet accepted."""
        with open(f"/proc/{self.pid}/net/tcp", encoding="ascii") as table:
            rows = [line.split() for line in table.readlines()[1:]]
        established, peer_has_closed = "01", "08"
        return sum(
            int(row[1].partition(":")[2], 16) == self.port and row[3] in (established, peer_has_closed)
            for row in rows
        )

    def cpu_seconds(self) -> float:
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _status(self, name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", pathlib.Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return int(found[1]) << 10


def example(name: str, *arguments: str) -> Server:
    """Start ``examples/NAME.py`` on a free port of 127.0.0.1. ``UMBEL_EXAMPLES`` names another directory."""
    directory = pathlib.Path(os.environ.get("UMBEL_EXAMPLES", ROOT / "examples"))
    return Server(sys.executable, directory / f"{name}.py", "--host", "127.0.0.1", "--port", "0", *arguments)


def served(
    history: int = 1000,
    *,
    authenticate: bool | str = False,
    bounds: dict[str, float] | None = None,
    environment: dict[str, str] | None = None,
    **settings: object,
) -> Server:
    """Start served.py with settings of its own. ``UMBEL_TEST_SERVER`` names another script."""
    script = os.environ.get("UMBEL_TEST_SERVER", pathlib.Path(__file__).with_name("served.py"))
    settings = {"host": "127.0.0.1", "port": 0, **settings}
    options = {
        "history": history,
        "authenticate": authenticate,
        "bounds": bounds or {},
        "settings": settings,
    }
    return Server(sys.executable, script, json.dumps(options), environment=environment)


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """Run the block when the server is ready; stop it afterwards."""
    with server:
        yield server.wait_ready()


def wait_until(condition: Callable[[], object], what: str, seconds: float = 5.0) -> None:
    """Look until the condition holds; fail after so many seconds. The one place that pauses."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def http_status(address: tuple[str, int], path: str) -> int | None:
    """Return the status of ``GET path``, or ``None`` when nobody answers."""
    try:
        with socket.create_connection(address, timeout=2) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
            words = connection.recv(4096).split(None, 2)
    except OSError:
        return None
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else None

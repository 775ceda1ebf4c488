"""Starts the programs that are measured and the load, pins them to their cores, and reads what they say.

Every process started here ends by itself: servers at the end of their stdin, the load after its window or its
timeout.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import resource
import subprocess
import sys
import threading
import time
import venv
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SERVER_CORE, LOAD_CORE = 0, 1
SETTLE_SECONDS = 0.2
# Seconds after a window for what is still on its way. The load stops earlier, when nothing comes any more.
MOST_DRAIN = 5.0

Answer = dict[str, Any]


class BenchError(Exception):
    """A measurement that could not be made, or whose result is not valid."""


@dataclass(frozen=True)
class Effort:
    """How long and how large."""

    name: str
    warmup: float
    seconds: float
    most_connections: int
    repeat_floor: bool
    # Seconds to wait for connections that do not open.
    patience: float
    # Rows at a time: where nothing is measured, most of a row is waiting.
    together: int = 1

    def connections(self, wanted: int) -> int:
        return min(wanted, self.most_connections)


EFFORTS = {
    "short": Effort(
        "short",
        warmup=0.1,
        seconds=0.3,
        most_connections=100,
        repeat_floor=False,
        patience=15,
        together=4,
    ),
    "normal": Effort(
        "normal", warmup=2.0, seconds=8.0, most_connections=20_000, repeat_floor=True, patience=120
    ),
    "full": Effort(
        "full", warmup=3.0, seconds=20.0, most_connections=20_000, repeat_floor=True, patience=120
    ),
    "compare": Effort(
        "compare", warmup=1.0, seconds=4.0, most_connections=20_000, repeat_floor=False, patience=60
    ),
}


def raise_descriptor_limit() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


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


class Server(Process):
    """A server program that obeys commands on stdin (benches/servers/control.py, or the floor program)."""

    def __init__(self, command: list[str], name: str, environment: dict[str, str] | None = None) -> None:
        super().__init__(command, SERVER_CORE, name, environment)
        try:
            first = json.loads(self.out.next(20))
        except BenchError as error:
            time.sleep(0.2)
            self.end()
            raise BenchError(f"{error}; {' | '.join(self.errors.all[-3:])}") from None
        self.package: str = first.get("package", "")
        self.port: int = first["port"]
        self.pid = first["pid"]

    def ask(self, command: str, timeout: float = 30) -> Answer:
        self.write(command)
        answer: Answer = json.loads(self.out.next(timeout))
        if "error" in answer:
            raise BenchError(f"{self.name}: {answer['error']}")
        return answer

    def memory(self) -> int:
        """Bytes that this process has allocated and touched, without the files that are mapped into it."""
        lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


class Load(Process):
    """umbel-load in one of its client commands; waits for ``go()`` once all connections are open."""

    def __init__(self, bench: Bench, command: str, server: Server, options: dict[str, Any]) -> None:
        self._seconds = (
            float(options.get("seconds", 0))
            + float(options.get("warmup", 0))
            + float(options.get("drain", 0))
            + float(options.get("quiet", 0))
        )
        self._patience = float(options["timeout"])
        words = [str(bench.load_binary), command, "--port", str(server.port), "--server-pid", str(server.pid)]
        for name, value in options.items():
            if value is True:
                words.append("--" + name.replace("_", "-"))
            elif value is not False and value is not None:
                words += ["--" + name.replace("_", "-"), str(value)]
        super().__init__(words, LOAD_CORE, f"load ({command})")

    def wait_ready(self) -> None:
        self.errors.wait("ready", self._patience + 5)

    def go(self) -> None:
        self.write("go")

    def wait_window(self) -> None:
        """Waits until the measuring window is over."""
        self.errors.wait("window", self._seconds + 30)

    def result(self) -> Answer:
        try:
            answer: Answer = json.loads(self.out.next(self._seconds + 30))
        finally:
            self.end()
        if not answer["valid"]:
            raise BenchError(f"not valid: {answer['faults']}")
        return answer


@dataclass
class Bench:
    """What the rows use: programs to start, and how much effort to spend."""

    effort: Effort
    load_binary: Path
    subject: str = "umbel"
    # The directory that has Umbel's package, when it is not the one that is installed.
    package: Path | None = None
    peers_python: Path = ROOT / "target/bench-venv/bin/python"
    memo: dict[str, Any] = field(default_factory=dict)
    runs: list[Answer] = field(default_factory=list)

    def floor(self, data_bytes: int) -> Server:
        return Server([str(self.load_binary), "floor-server", "--data-bytes", str(data_bytes)], "floor")

    def umbel(self, **options: Any) -> Server:
        """Starts the server that is measured: Umbel, or the program named by ``--subject`` in its place."""
        if self.subject != "umbel":
            known = ("data_bytes", "payload", "channels", "each", "deflate")
            options = {name: value for name, value in options.items() if name in known}
            return self.peer(self.subject, **options)
        options.pop("deflate", None)
        environment = {"PYTHONPATH": str(self.package)} if self.package else None
        command = [sys.executable, str(HERE / "servers/umbel_fanout.py"), *_words(options)]
        server = Server(command, "umbel", environment)
        if self.package and self.package not in Path(server.package).parents:
            server.end()
            raise BenchError(f"Umbel came from {server.package}, not from {self.package}")
        return server

    def attacked(self) -> Server:
        """Starts Umbel with small limits."""
        return Server([sys.executable, str(HERE / "servers/attacked.py")], "attacked")

    def peer(self, name: str, **options: Any) -> Server:
        self._need_peers()
        return Server(
            [str(self.peers_python), str(HERE / f"servers/{name}_fanout.py"), *_words(options)], name
        )

    def answering(self, name: str) -> Server:
        """Starts a peer that answers requests."""
        self._need_peers()
        return Server([str(self.peers_python), str(HERE / "servers/requests_peer.py"), name], name)

    def _need_peers(self) -> None:
        if not self.peers_python.exists():
            raise BenchError(f"peers are not installed: python {HERE.name}/run.py --setup")

    def load(self, command: str, server: Server, **options: Any) -> Load:
        options.setdefault("warmup", self.effort.warmup)
        options.setdefault("seconds", self.effort.seconds)
        options.setdefault("timeout", self.effort.patience)
        return Load(self, command, server, options)

    def fanout(self, server: Server, command: str, **options: Any) -> Answer:
        """Opens connections, gives the server its command, measures a window, lets the rest arrive."""
        if server.name == "floor":
            options |= {"lossy": True}
        options.setdefault("sample_every", 10 if self.effort.name == "short" else 100)
        load = self.load("fanout", server, wait=True, drain=MOST_DRAIN, **options)
        try:
            load.wait_ready()
            if server.name == "floor":
                _wait_accepted(server, int(options["connections"]))
            # The last answer is acknowledged within 40 ms. Until then TCP expects the client to answer,
            # acknowledges half as often, and a send costs more. That must be so for every server or for none.
            time.sleep(SETTLE_SECONDS)
            before = server.ask("stats")
            server.ask(command)
            load.go()
            load.wait_window()
            after = server.ask("rate 0")
            answer = load.result()
        finally:
            load.end()
        answer["server"] = {
            "name": server.name,
            "command": command,
            "before": before,
            "after": after,
            "warmup": float(options.get("warmup", self.effort.warmup)),
        }
        self.runs.append(answer)
        return answer


def _wait_accepted(floor: Server, connections: int) -> None:
    for _ in range(1000):
        if floor.ask("stats")["connections"] >= connections:
            return
        time.sleep(0.02)
    raise BenchError("the floor program did not accept all connections")


def _words(options: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif value is not False and value is not None:
            words += [flag, str(value)]
    return words


def build_load() -> Path:
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "load"
    command = [
        "cargo",
        "build",
        "--quiet",
        "--release",
        "--locked",
        "--manifest-path",
        str(HERE / "load/Cargo.toml"),
    ]
    subprocess.run([*command, "--target-dir", str(target)], check=True)
    return target / "release/umbel-load"


def install_peers() -> None:
    place = ROOT / "target/bench-venv"
    if not (place / "bin/python").exists():
        venv.create(place, with_pip=True)
    command = [
        str(place / "bin/python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "-r",
        str(HERE / "requirements.txt"),
    ]
    subprocess.run(command, check=True)


def machine() -> Answer:
    """What the figures depend on."""
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "?",
    )
    memory = Path("/proc/meminfo").read_text().split(None, 2)[1]

    def version(*command: str) -> str:
        try:
            return subprocess.run(
                command, capture_output=True, text=True, check=True, cwd=ROOT
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return "?"

    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory) / 2**20, 1),
        "kernel": os.uname().release,
        "python": sys.version.split()[0],
        "rustc": version("rustc", "--version"),
        "commit": version("git", "rev-parse", "--short", "HEAD"),
        "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "load_average_before": os.getloadavg(),
    }

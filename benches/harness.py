"""Starts the programs that are measured and the load, pins them to their cores, and reads what they say.

Every process started here ends by itself: servers at the end of their stdin, the load after its window or its
timeout.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import venv
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from processes import HERE, BenchError, Process

ROOT = HERE.parent
SERVER_CORE, LOAD_CORE = 0, 1
SETTLE_SECONDS = 0.2
# Seconds after a window for what is still on its way. The load stops earlier, when nothing comes any more.
MOST_DRAIN = 5.0

Answer = dict[str, Any]


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
    """A load of a row; waits for ``go()`` once all connections are open, if it is to ``wait``."""

    def __init__(self, command: str, server: Server, options: Answer) -> None:
        self._seconds = sum(float(options.get(name, 0)) for name in ("seconds", "warmup", "drain", "quiet"))
        self._patience = float(options["timeout"])
        where = {"address": f"127.0.0.1:{server.port}", "host": "127.0.0.1", "server_pid": server.pid}
        super().__init__([sys.executable, str(HERE / "loader.py")], LOAD_CORE, f"load ({command})")
        self._config = where | COMMANDS[command] | options

    def wait_started(self) -> None:
        """Waits until nothing but the configuration is missing."""
        self.errors.wait("started", 30)

    def begin(self) -> None:
        """Opens the connections."""
        self.write(json.dumps(self._config))

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
    floor_binary: Path
    subject: str = "umbel"
    # The directory that has Umbel's package, when it is not the one that is installed.
    package: Path | None = None
    peers_python: Path = ROOT / "target/bench-venv/bin/python"
    memo: dict[str, Any] = field(default_factory=dict)
    runs: list[Answer] = field(default_factory=list)

    def floor(self, data_bytes: int, frames_per_send: int = 1) -> Server:
        options = {"data_bytes": data_bytes, "frames_per_send": frames_per_send}
        return Server([str(self.floor_binary), "serve", *_words(options)], "floor")

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

    def load(self, command: str, server: Server, begin: bool = True, **options: Any) -> Load:
        options.setdefault("warmup", self.effort.warmup)
        options.setdefault("seconds", self.effort.seconds)
        options.setdefault("timeout", self.effort.patience)
        load = Load(command, server, options)
        if begin:
            load.begin()
        return load

    def calls(self, server: Server, **options: Any) -> Answer:
        """Makes calls over HTTP for a while, by the program that is beside the floor's."""
        times = {"warmup": self.effort.warmup, "seconds": self.effort.seconds}
        where = {"port": server.port, "server_pid": server.pid}
        words = _words(options | times | where)
        caller = Process([str(self.floor_binary), "call", *words], LOAD_CORE, "calls")
        try:
            run: Answer = json.loads(caller.out.next(sum(times.values()) + 30))
        except BenchError as error:
            raise BenchError(f"{error}; {' | '.join(caller.errors.all[-3:])}") from None
        finally:
            caller.end()
        self.runs.append(run)
        return run

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


# The words of src/load/config.rs for what a row's connections do.
COMMANDS: dict[str, Answer] = {
    "fanout": {"kind": "read", "poll": True},
    "idle": {"kind": "read"},
    "request": {"kind": "request", "poll": True},
    "resume": {"kind": "resume", "poll": True},
    "connect": {"kind": "churn"},
}


def build_floor() -> Path:
    """Builds the floor program, and returns where it is."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "floor"
    command = [
        "cargo",
        "build",
        "--quiet",
        "--release",
        "--locked",
        "--manifest-path",
        str(HERE / "floor/Cargo.toml"),
    ]
    subprocess.run([*command, "--target-dir", str(target)], check=True)
    return target / "release/umbel-floor"


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

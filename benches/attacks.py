"""Rows about strangers: what the others notice of them, and what they make the server keep."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from attacker import connect, frame, say
from harness import LOAD_CORE, Bench, Server
from measure import Result, judge, need
from processes import HERE, Process

WORK = ("elements", "channels", "queries", "conversations")
MEMORY = (
    "runs",
    "mail",
    "keys",
    "connects",
    "readers",
    "messages",
    "publications",
    "texts",
    "ahead",
)


@contextmanager
def attack(server: Server, name: str, seconds: float) -> Iterator[Process]:
    """Strangers that are ready. They begin with ``go``, and go at the end of the block."""
    command = [sys.executable, str(HERE / "attacker.py"), str(server.port), name, str(seconds)]
    process = Process(command, LOAD_CORE, f"attack ({name})")
    try:
        process.out.wait("ready", 30)
        yield process
    finally:
        process.end()


def bystander(bench: Bench) -> Result:
    """The time of a heartbeat of somebody else, without and with each attack."""
    seconds = 1.0 if bench.effort.name == "short" else 5.0
    notes, worst = [], 0.0
    with bench.attacked() as server:
        quiet = p95(server, seconds)
        limit = max(3 * quiet, 0.05)
        for name in WORK:
            with attack(server, name, seconds + 1) as strangers:
                strangers.write("go")
                time.sleep(0.5)
                noticed = p95(server, seconds)
            notes.append(f"{name} {noticed * 1000:.1f}")
            worst = max(worst, noticed)
    note = f"p95 in ms: undisturbed {quiet * 1000:.1f}, {', '.join(notes)}"
    return Result(
        f"{worst * 1000:.1f} ms", f"{limit * 1000:.0f} ms", worst / limit, judge(bench, worst <= limit), note
    )


def p95(server: Server, seconds: float) -> float:
    """Of the seconds from a heartbeat to its answer, one every 10 ms."""
    took = []
    with connect(server.port) as peer:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.monotonic()
            peer.sendall(frame(say("heartbeat")))
            while b"heartbeat_ack" not in (heard := peer.recv(1 << 16)):
                need(heard != b"", "the bystander was closed")
            took.append(time.monotonic() - began)
            time.sleep(0.01)
    return sorted(took)[len(took) * 95 // 100]


def memory(bench: Bench) -> Result:
    """How much the server grows under each attack, with limits of 8 MiB and messages of 1 MiB."""
    seconds = 1.0 if bench.effort.name == "short" else 6.0
    notes, worst = [], 0
    for name in MEMORY:
        with bench.attacked() as server, attack(server, name, seconds) as strangers:
            time.sleep(0.5)
            before = most = server.memory()
            if name == "connects":
                server.ask(f"block {seconds}")
            strangers.write("go")
            if name == "readers":
                for channel in ("open:a", "open:b"):
                    server.ask(f"publish {channel}")
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(0.1)
                most = max(most, server.memory())
            strangers.out.wait("over", 10)
            most = max(most, server.memory())
        growth = most - before
        notes.append(f"{name} {growth / 2**20:.1f}")
        worst = max(worst, growth)
    limit = 32 << 20
    return Result(
        f"{worst / 2**20:.1f} MiB",
        "32 MiB",
        worst / limit,
        judge(bench, worst <= limit),
        f"in MiB: {', '.join(notes)}",
    )

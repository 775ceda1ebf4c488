"""What the measured servers share: payloads, the open-loop pace, and the commands on stdin.

A server prints ``{"event": "listening", "port": …, "pid": …}`` when it accepts connections. It then obeys one
command a line and answers each with one JSON object on stdout:

==============  ========================================================================================
``rate R``      publish R times a second from now on (0: stop)
``others R``    publish R times a second to the channel `others` (Umbel only)
``timeit K``    time K publish() calls, the publisher being stopped
``block S``     hold the interpreter lock for S seconds inside the event loop
``stats``       nothing; every answer carries the statistics
``quit``        end
==============  ========================================================================================
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

Stats = dict[str, Any]


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--data-bytes", type=int, default=128, help="size of one publication's data as JSON")
    parser.add_argument("--payload", choices=["pad", "json"], default="pad")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--each", action="store_true", help="a publication is one to every channel")
    parser.add_argument("--deflate", action="store_true")
    return parser


def say(answer: Stats) -> None:
    print(json.dumps(answer), flush=True)


def listening(port: int, package: str = "") -> None:
    """Says where to connect, and which file of the measured package is running."""
    say({"event": "listening", "port": port, "pid": os.getpid(), "package": package})


def free_port() -> int:
    """For servers that can't be asked which port they got."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Payload:
    """Data of a fixed size that begins with the publishing time.

    ``pad`` is one string of x; ``json`` is records of numbers and words that differ from publication to
    publication, so that compression has the work it has in real use.
    """

    def __init__(self, kind: str, data_bytes: int) -> None:
        self._size = data_bytes
        self._pads: dict[int, str] = {}
        self._bodies = (
            [_records(random.Random(seed), data_bytes) for seed in range(64)] if kind == "json" else []
        )
        self._next = 0

    def make(self) -> dict[str, Any]:
        now = time.monotonic_ns()
        if self._bodies:
            self._next += 1
            return {"t": now, "rows": self._bodies[self._next % len(self._bodies)]}
        digits = len(str(now))
        pad = self._pads.get(digits)
        if pad is None:
            pad = self._pads[digits] = "x" * max(0, self._size - len('{"t":,"pad":""}') - digits)
        return {"t": now, "pad": pad}


def _records(source: random.Random, size: int) -> list[dict[str, Any]]:
    names = ["engine", "turbine", "pump", "valve", "boiler", "rotor", "sensor", "relay"]
    rows: list[dict[str, Any]] = []
    while len(json.dumps(rows, separators=(",", ":"))) < size - 40:
        rows.append(
            {
                "id": source.randrange(10**6),
                "name": source.choice(names),
                "value": round(source.gauss(50, 20), 3),
                "ok": source.random() > 0.1,
            }
        )
    return rows


def envelope(channel: str, offset: int, data: dict[str, Any]) -> bytes:
    """One publication as Umbel frames it, for servers that have no batches of their own."""
    body = json.dumps(data, separators=(",", ":"))
    return (
        f'{{"type":"batched_updates","updates":[{{"channel":"{channel}","offset":{offset},"data":{body}}}],'
        '"count":1,"timestamp":"2026-01-01T00:00:00.000Z"}'
    ).encode()


class Pace:
    """How many publications are due at a rate, in an open loop: a late publisher catches up."""

    def __init__(self) -> None:
        self.rate = 0.0
        self.published = 0
        self.late_max = 0.0
        self._started = 0.0
        self._since = 0

    def set(self, rate: float) -> None:
        self._started = time.monotonic()
        self._since = 0
        self.late_max = 0.0
        self.rate = rate

    def take(self) -> int:
        """Returns how many are due, which the caller then publishes."""
        if self.rate <= 0:
            return 0
        elapsed = time.monotonic() - self._started
        due = int(elapsed * self.rate) + 1 - self._since
        if due > 0:
            self.late_max = max(self.late_max, elapsed - self._since / self.rate)
            self._since += due
            self.published += due
        return max(due, 0)

    def wait(self) -> float:
        """Seconds until the next is due, at least half a millisecond: fast rates go in small bursts."""
        if self.rate <= 0:
            return 3600.0
        return max(0.0005, self._started + self._since / self.rate - time.monotonic())

    def stats(self) -> Stats:
        return {"published": self.published, "late_max_ms": round(self.late_max * 1e3, 3)}


def targets(channels: int, each: bool) -> Iterator[list[str]]:
    """The channels of each publication: one after the other, or all of them each time."""
    names = ["bench"] if channels == 1 else [f"bench-{number}" for number in range(channels)]
    return itertools.cycle([names] if each else [[name] for name in names])


class Publisher(threading.Thread):
    """Publishes from a thread of its own, for servers whose publish() may be called from any thread."""

    def __init__(
        self, publish: Callable[[str, Any], Any], payload: Payload, names: Iterator[list[str]]
    ) -> None:
        super().__init__(name="publisher", daemon=True)
        self.pace = Pace()
        # CPU time of the calls of publish(), and of all else that this thread does: pace, data, sleep.
        self.publish_seconds = 0.0
        self.overhead_seconds = 0.0
        self._publish = publish
        self._payload = payload
        self._names = names
        self._changed = threading.Event()

    def set_rate(self, rate: float) -> None:
        self.pace.set(rate)
        self._changed.set()

    def run(self) -> None:
        publish, make, names = self._publish, self._payload.make, self._names
        while True:
            due = [(name, make()) for _ in range(self.pace.take()) for name in next(names)]
            began = time.thread_time()
            for name, data in due:
                publish(name, data)
            ended = time.thread_time()
            self.publish_seconds += ended - began
            self.overhead_seconds = ended - self.publish_seconds
            if self.pace.rate > 0:
                # Cheaper than waiting for the event: 52 instead of 70 µs of the measured core, at 320/s.
                time.sleep(min(self.pace.wait(), 0.05))
            else:
                self._changed.wait()
                self._changed.clear()


def time_publish(publish: Callable[[str, Any], Any], payload: Payload, count: int) -> Stats:
    """Times publish() in bursts of 200 calls, 20 ms apart, so that the flush of one ends before the next.

    CPU time of the calling thread is what a caller pays; wall time also holds what the server did meanwhile
    on the same core.
    """
    burst, cpu, wall = 200, [], []
    for _ in range(max(1, count // burst)):
        data = [payload.make() for _ in range(burst)]
        began, began_cpu = time.perf_counter_ns(), time.thread_time_ns()
        for item in data:
            publish("bench", item)
        cpu.append((time.thread_time_ns() - began_cpu) / burst)
        wall.append((time.perf_counter_ns() - began) / burst)
        time.sleep(0.02)
    cpu.sort()
    wall.sort()
    middle = len(cpu) // 2
    return {
        "publish_cpu_ns": {"min": cpu[0], "p50": cpu[middle], "max": cpu[-1]},
        "publish_wall_ns": {"min": wall[0], "p50": wall[middle], "max": wall[-1]},
        "timed": burst * len(cpu),
    }


def process_stats() -> Stats:
    return {"cpu_seconds": time.process_time()}


def obey(commands: dict[str, Callable[[str], Stats | None]], stats: Callable[[], Stats]) -> None:
    """Reads commands until ``quit`` or the end of stdin; answers with the statistics and the result."""
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "quit":
            return
        try:
            result = None if word == "stats" else commands[word](rest)
        except Exception as error:
            say({"error": f"{word}: {error!r}"})
        else:
            say({**process_stats(), **stats(), **(result or {})})

"""Rows about presence: many enter a room, and are there."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from harness import LOAD_CORE, Answer, Bench, Server
from measure import Result, judge, need
from processes import HERE, BenchError, Process

# Seconds until clients that are silent are pinged: beyond all windows, since pings are no matter of presence.
HEARTBEAT = 600
# In a ready channel of others. With more of them the server has no room for those who enter.
OTHERS_RATE = 100


@dataclass(frozen=True)
class Crowd:
    """Clients that enter rooms."""

    count: int
    # They come evenly within this time.
    seconds: float
    rooms: int = 1
    # Bytes that each says of itself.
    said: int = 0
    # Without presence: they only subscribe to their rooms.
    alone: bool = False


class Members:
    """The program that plays the clients of a crowd."""

    def __init__(self, server: Server, crowd: Crowd, silence: float) -> None:
        words = [server.port, crowd.count, crowd.seconds, crowd.rooms, crowd.said, silence]
        command = [sys.executable, str(HERE / "members.py"), *map(str, words)]
        self._process = Process(command + ["--alone"] * crowd.alone, LOAD_CORE, "members")
        self._process.out.wait("ready", 30)

    def go(self) -> None:
        self._process.write("go")

    def wait(self, event: str, seconds: float) -> Answer:
        try:
            answer: Answer = json.loads(self._process.out.next(seconds))
        except BenchError as error:
            time.sleep(0.2)
            raise BenchError(f"{error} {' | '.join(self._process.errors.all[-1:])}") from None
        need(answer["event"] == event, f"{answer} instead of {event}")
        return answer

    def end(self) -> None:
        self._process.end()


@contextmanager
def rooms(bench: Bench, *crowds: Crowd) -> Iterator[tuple[Server, list[Members]]]:
    """A server, and members that are about to come, each crowd into rooms of its own.

    Of 10,000 in a room it lists 1,000, which is the default.
    """
    first = crowds[0]
    options = {"tokens": True, "rooms": True, "heartbeat": HEARTBEAT}
    if not first.alone:
        options |= {"presence": first.count // 10}
    # A number is told once a second at most, to 10,000 every three seconds.
    silence = 0.2 if first.alone else 1.3 if bench.effort.name == "short" else 4.0
    with bench.umbel(data_bytes=128, **options) as umbel, ExitStack() as ends:
        members = []
        for crowd in crowds:
            members.append(Members(umbel, crowd, silence))
            ends.callback(members[-1].end)
        yield umbel, members


def enter(bench: Bench, connections: int, others: int) -> Result:
    """Many enter one room within ten seconds, while others read another channel."""
    short = bench.effort.name == "short"
    count = bench.effort.connections(connections)
    crowd = Crowd(count, 0.3 if short else 10.0)
    told, ratio, run = entering(bench, crowd, bench.effort.connections(others))
    _, plain, alone = entering(
        bench, Crowd(count, crowd.seconds, alone=True), bench.effort.connections(others)
    )
    each = told["bytes"] / count / 1024
    quiet, noticed = (run[name]["p95"] for name in ("others_quiet_ms", "others_ms"))
    return Result(
        f"× {ratio:.2f}, {each:.1f} KiB",
        "1.5 ×, 300 KiB",
        max(ratio / 1.5, each / 300),
        judge(bench, ratio <= 1.5 and each <= 300),
        f"others' p95 {noticed:.1f} ms, undisturbed {quiet:.1f} ms; without presence × {plain:.2f}; all told "
        f"({told['told']}) after {told['settled']:.1f} s; CPU {run['server_cpu_percent']:.0f} % and "
        f"{alone['server_cpu_percent']:.0f} %, the load {run['load_cpu_percent']:.0f} %",
    )


def entering(bench: Bench, crowd: Crowd, others: int) -> tuple[Answer, float, Answer]:
    """What the members say, how much slower others are, and the run of the latter."""
    quiet = 0.5 if bench.effort.name == "short" else 5.0
    with rooms(bench, crowd) as (umbel, [members]):
        # It sleeps while nothing comes: the members have the same processor.
        load = bench.load(
            "idle",
            umbel,
            connections=0,
            others=others,
            sessions=True,
            token="user-",
            quiet=quiet,
            seconds=crowd.seconds + 1,
            wait=True,
        )
        try:
            load.wait_ready()
            umbel.ask(f"others {OTHERS_RATE}")
            load.go()
            time.sleep(bench.effort.warmup + quiet)
            members.go()
            entered = members.wait("entered", 60)
            settled = members.wait("settled", 60)
            umbel.ask("others 0")
            run = load.result()
        finally:
            load.end()
        members.go()
        told = members.wait("told", 60) | {"entered": entered["seconds"], "settled": settled["seconds"]}
    bench.runs.append(run)
    need(run["total"]["others_messages"] > 0, "the others got nothing")
    return told, run["others_ms"]["p95"] / run["others_quiet_ms"]["p95"], run


def rest(bench: Bench, connections: int) -> Result:
    """Many are there, and each says 100 bytes of itself, against the same connections without presence."""
    short = bench.effort.name == "short"
    half = bench.effort.connections(connections) // 2
    seconds = 0.3 if short else 5.0
    plain = resting(bench, Crowd(half, seconds, alone=True))
    # In one room so many are counted, as in `enter`; in rooms of a hundred they are listed.
    kinds = [
        resting(bench, Crowd(half, seconds, rooms, said=100))
        for rooms in ((10,) if short else (1, half // 100))
    ]
    cpu = max(kind["cpu"] for kind in kinds) - plain["cpu"]
    sizes = [kind["bytes_each"] - plain["bytes_each"] for kind in kinds]
    figures = ", ".join(
        f"{kind['told']}: {kind['cpu']:.2f} %, {size / 1024:.2f} KiB"
        for kind, size in zip(kinds, sizes, strict=True)
    )
    need(all(kind["bytes_at_rest"] == 0 for kind in kinds), "members at rest were told something")
    return Result(
        f"{cpu:.2f} %, {max(sizes) / 1024:.2f} KiB",
        "0.5 %, 1 KiB",
        max(cpu / 0.5, max(sizes) / 1024),
        judge(bench, cpu < 0.5 and max(sizes) <= 1024),
        f"{figures}; without presence {plain['cpu']:.2f} %, {plain['bytes_each'] / 1024:.2f} KiB each",
    )


def resting(bench: Bench, crowd: Crowd) -> Answer:
    """What a second crowd adds to the memory, and the CPU of both while nothing happens.

    What is freed while the first one comes is used by the second.
    """
    window = 0.3 if bench.effort.name == "short" else 20.0
    sizes = []
    with rooms(bench, crowd, crowd) as (umbel, crowds):
        for members in crowds:
            members.go()
            for event in ("entered", "settled"):
                members.wait(event, 120)
            sizes.append(umbel.memory())
        time.sleep(bench.effort.warmup)
        began = umbel.ask("stats")["cpu_seconds"]
        time.sleep(window)
        used = umbel.ask("stats")["cpu_seconds"] - began
        for members in crowds:
            members.go()
        told = [members.wait("told", 60) for members in crowds]
    need(told[0]["told"] == told[1]["told"], "the crowds were told different things")
    return {
        "told": told[0]["told"],
        "bytes_at_rest": sum(it["bytes_at_rest"] for it in told),
        "cpu": used / window * 100,
        "bytes_each": (sizes[1] - sizes[0]) / crowd.count,
    }

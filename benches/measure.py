"""What the rows share: runs of the floor program and of Umbel, their checks, and how figures are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness import Answer, Bench
from processes import BenchError


@dataclass
class Result:
    """One line of the table. ``passed`` is None where the row was run too small to say."""

    figure: str
    against: str
    ratio: float | None
    passed: bool | None
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


# What Umbel puts around one publication's data in a frame: the floor program's frames have the same.
ENVELOPE_BYTES = 136


def need(condition: bool, what: str) -> None:
    """Says that a result is not valid; never a judgement of a figure."""
    if not condition:
        raise BenchError(what)


def delivered(run: Answer) -> Answer:
    """Checks that a run delivered, that the sample was checked, and that gaps explain what is missing."""
    need(run["frames"] > 0, "no frames in the window")
    need(run["total"]["checked_updates"] > 0, "no update was checked")
    need(run["live"] == run["connections"], "connections were lost")
    server, total = run["server"], run["total"]
    if server["name"] == "umbel" and run["channels"] == 1 and server["before"]["published"] == 0:
        published = server["after"]["published"]
        need(
            run["position_min"] == run["position_max"] == published or run["compressed_frames"] > 0,
            "not all arrived",
        )
        if not run["compressed_frames"]:
            expected = published * run["connections"]
            need(
                total["messages"] + total["lost"] == expected,
                "delivered and lost do not add up to what was published",
            )
    return run


def publisher_seconds(run: Answer, part: str) -> float:
    """CPU of a part of the publisher in the window; it ran at the same pace during the warm-up.

    ``publish``: the calls of publish(). ``overhead``: keeping the pace, making the data.
    """
    server, window = run["server"], run["window_seconds"]
    name = f"{part}_seconds"
    used = server["after"].get(name, 0.0) - server["before"].get(name, 0.0)
    return float(used * window / (window + server["warmup"]))


def server_percent(run: Answer) -> float:
    """Percent of a core that the server used; what the bench did in its process is taken off."""
    overhead = publisher_seconds(run, "overhead") / run["window_seconds"] * 100
    return float(run["server_cpu_percent"] - overhead)


def floor_run(
    bench: Bench,
    connections: int,
    data_bytes: int,
    command: str = "saturate",
    frames_per_send: int = 1,
    **options: Any,
) -> Answer:
    with bench.floor(max(data_bytes, 24), frames_per_send) as floor:
        return delivered(bench.fanout(floor, command, connections=connections, **options))


def umbel_run(bench: Bench, connections: int, rate: float, server: dict[str, Any], **options: Any) -> Answer:
    with bench.umbel(**server) as umbel:
        return delivered(bench.fanout(umbel, f"rate {rate:.3f}", connections=connections, **options))


def sandwich(
    bench: Bench, floor: Callable[[], Answer], subject: Callable[[Answer], Answer]
) -> tuple[list[Answer], Answer]:
    """Floor, subject, floor: drift of the machine shows as a difference between the two floors."""
    floors = [floor()]
    run = subject(floors[0])
    if bench.effort.repeat_floor:
        floors.append(floor())
    return floors, run


def mean(runs: list[Answer], *path: str) -> float:
    total = 0.0
    for run in runs:
        value: Any = run
        for name in path:
            value = value[name]
        total += float(value)
    return total / len(runs)


def judge(bench: Bench, passed: bool) -> bool | None:
    return None if bench.effort.name == "short" else passed


def thousands(value: float) -> str:
    return f"{value:,.0f}"


def milliseconds(latency: Answer) -> str:
    return " / ".join(f"{latency[name]:.2f}" for name in ("p50", "p95", "p99")) + " ms"


def loads(*runs: Answer) -> str:
    """The load's own CPU, which must stay under 85 %."""
    return "load CPU " + ", ".join(f"{run['load_cpu_percent']:.0f} %" for run in runs)


def pass_seconds(run: Answer) -> float:
    """How long one pass over all connections took."""
    return float(run["connections"] / run["frames_per_second"])

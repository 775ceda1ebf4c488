"""What `compare.py` measures: of each row one figure of Umbel's own, in a short window.

The loads are those of the rows of the same name, with two differences. A rate that a row searches for, or
takes from a run of the floor program, is fixed here for the whole comparison: a multiple of the floor's pace,
which is measured once. Rows that offer what the floor can send offer a quarter more here, so that a faster
server can show it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import costs
from delivery import delivery_cost
from harness import Answer, Bench
from measure import floor_run, need, server_percent, umbel_run


@dataclass(frozen=True)
class Figure:
    """One row of the comparison."""

    unit: str
    more_is_better: bool
    measure: Callable[[Bench], float]
    # Windows per turn and side: two where a single one varies much, or is soon over.
    windows: int = 1


def pace(bench: Bench, count: int, data_bytes: int) -> float:
    """Passes per second of the floor program, measured once per comparison."""
    key = f"pace-{count}-{data_bytes}"
    if key not in bench.memo:
        bench.memo[key] = floor_run(bench, count, data_bytes)["frames_per_second"] / count
    passes: float = bench.memo[key]
    return passes


def frames(bench: Bench, connections: int, data_bytes: int, **settings: object) -> float:
    """Frames/s when one publication and a quarter come per pass of the floor."""
    count = bench.effort.connections(connections)
    rate = 1.25 * pace(bench, count, data_bytes)
    deflate = "deflate" in settings
    run = umbel_run(bench, count, rate, {"data_bytes": data_bytes, "tick": 0, **settings}, deflate=deflate)
    need(run["deflate_agreed"] == (count if deflate else 0), "permessage-deflate was not agreed as asked")
    return float(run["frames_per_second"])


def messages(bench: Bench, factor: float) -> float:
    """Messages/s to 10,000 when more are published than can be delivered."""
    count = bench.effort.connections(10_000)
    rate = min(factor * pace(bench, count, 128), FASTEST_PUBLISHER)
    return float(umbel_run(bench, count, rate, {"data_bytes": 128})["messages_per_second"])


def latency(bench: Bench) -> float:
    run = umbel_run(bench, bench.effort.connections(10_000), 10, {"data_bytes": 128})
    return float(run["latency_oldest_ms"]["p95"])


def cpu(bench: Bench) -> float:
    return server_percent(umbel_run(bench, bench.effort.connections(1000), 100, {"data_bytes": 128}))


def random_channels(bench: Bench) -> float:
    """Frames/s when ten publications come per connection and pass of the floor; each is delivered."""
    count = bench.effort.connections(10_000)
    run = umbel_run(
        bench,
        count,
        min(100 * pace(bench, count, 1024), FASTEST_PUBLISHER),
        {"data_bytes": 1024, "payload": "json", "deflate": True, "channels": 100},
        channels=100,
        per_connection=10,
        random=True,
        deflate=True,
        sample_every=20,
    )
    need(run["compressed_frames"] > 0, "nothing was compressed")
    return float(run["frames_per_second"])


def curve_channels(bench: Bench) -> float:
    """Geometric mean of the server's µs per delivery over the curve's ends and its middle."""
    count = bench.effort.connections(10_000)
    sizes = (1, min(100, count), count)
    return geometric_mean([delivery_cost(bench, count, channels, passes=5) for channels in sizes])


def blocked(bench: Bench) -> float:
    """p95 of the latency while the interpreter is blocked nearly throughout."""
    count, seconds = bench.effort.connections(1000), min(2.5, bench.effort.seconds)
    with bench.umbel(data_bytes=128) as umbel:
        run, newcomers = costs.blocked_window(bench, umbel, count, hold=0.9 * seconds, seconds=seconds)
    need(newcomers["connects"] == 20, "not all newcomers were accepted")
    return float(run["latency_oldest_ms"]["p95"])


def memory(bench: Bench) -> float:
    count = bench.effort.connections(10_000)
    before, after = costs.idle_memory(bench, count, identity=True)
    return (after - before) / count


def connects(bench: Bench) -> float:
    return float(costs.connect_run(bench)["connects_per_second"])


def publish_cost(bench: Bench) -> float:
    """The dearer of the two: without subscribers, and with 10,000."""
    times = costs.publish_times(bench, 10_000, calls=400 if bench.effort.name == "short" else 10_000)
    return float(max(answer["publish_cpu_ns"]["p50"] for answer in times))


def requests(bench: Bench) -> float:
    with bench.umbel(data_bytes=128, requests=True) as umbel:
        run: Answer = costs.request_run(bench, umbel, in_flight=32)
    return float(run["answers_per_second"])


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(math.log(value) for value in values) / len(values))


# Publications per second that the publisher's thread can offer beside a busy server.
FASTEST_PUBLISHER = 20_000

FIGURES = {
    "frames-1000-128": Figure("frames/s", True, lambda bench: frames(bench, 1000, 128)),
    "frames-10000-128": Figure("frames/s", True, lambda bench: frames(bench, 10_000, 128)),
    # The best rate is about 110 × the floor's pace (docs/performance.md): a third more, and four times it.
    "messages-10000": Figure("messages/s", True, lambda bench: messages(bench, 150)),
    "latency-10000-10": Figure("ms p95", False, latency),
    "cpu-1000-100": Figure("% of a core", False, cpu, windows=2),
    "deflate-10000": Figure(
        "frames/s", True, lambda bench: frames(bench, 10_000, 1024, payload="json", deflate=True)
    ),
    "random-channels": Figure("frames/s", True, random_channels),
    "curve-channels": Figure("µs per delivery", False, curve_channels),
    "overload-4x": Figure("messages/s", True, lambda bench: messages(bench, 440)),
    "blocked": Figure("ms p95", False, blocked, windows=2),
    "memory-identity": Figure("bytes per connection", False, memory),
    "connects": Figure("connects/s", True, connects, windows=2),
    "publish-cost": Figure("ns per call", False, publish_cost, windows=2),
    "requests": Figure("answers/s", True, requests, windows=2),
}

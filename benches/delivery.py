"""Rows about what arrives: frames, messages, latency, saturation, compression, curves."""

from __future__ import annotations

import functools
from collections.abc import Callable

from harness import Answer, Bench, Server
from measure import (
    Result,
    floor_run,
    judge,
    loads,
    mean,
    milliseconds,
    need,
    pass_seconds,
    publisher_seconds,
    sandwich,
    thousands,
    umbel_run,
)


def frames(bench: Bench, connections: int, data_bytes: int) -> Result:
    """One publication per pass: the publisher keeps the pace of the floor program, the tick is 0."""
    count = bench.effort.connections(connections)

    def subject(floor: Answer) -> Answer:
        rate = floor["frames_per_second"] / count
        return umbel_run(bench, count, rate, {"data_bytes": data_bytes, "tick": 0})

    floors, run = sandwich(bench, lambda: floor_run(bench, count, data_bytes), subject)
    base = mean(floors, "frames_per_second")
    ratio = run["frames_per_second"] / base
    note = (
        f"{run['messages_per_frame']:.2f} publications and {run['bytes_per_frame']:.0f} bytes per frame "
        f"(floor {floors[0]['bytes_per_frame']:.0f}); server µs per frame {run['server_us_per_frame']:.2f} "
        f"(floor {mean(floors, 'server_us_per_frame'):.2f}); {loads(run, *floors)}"
    )
    return Result(
        f"{thousands(run['frames_per_second'])} frames/s",
        thousands(base),
        ratio,
        judge(bench, ratio >= 0.95),
        note,
    )


def sweep(bench: Bench, start: Callable[[], Server], connections: int, rate: float) -> Answer:
    """Doubles the rate until too little arrives, then tries between the last two. Returns the best."""
    best: Answer | None = None
    steps = 2 if bench.effort.name == "short" else 8

    def attempt(rate: float) -> tuple[Answer, bool]:
        with start() as server:
            run = bench.fanout(server, f"rate {rate:.3f}", connections=connections)
        run["rate"] = rate
        return run, run["messages_per_second"] >= 0.95 * rate * connections and run["lost"] == 0

    for _ in range(steps):
        run, kept_up = attempt(rate)
        if best is None or run["messages_per_second"] > best["messages_per_second"]:
            best = run
        if not kept_up:
            between, _ = attempt(rate * 0.7)
            best = max(best, between, key=lambda run: run["messages_per_second"])
            break
        rate *= 2
    assert best is not None
    return best


def umbel_peak(bench: Bench, connections: int) -> Answer:
    """The most messages per second to this many connections, found once per session."""
    key = f"peak-{connections}"
    if key not in bench.memo:
        start = functools.partial(bench.umbel, data_bytes=128)
        bench.memo[key] = sweep(bench, start, connections, 5_000_000 / max(connections, 1000) / 4)
    peak: Answer = bench.memo[key]
    return peak


def messages_to_floor(bench: Bench, connections: int) -> Result:
    count = bench.effort.connections(connections)
    floors, run = sandwich(bench, lambda: floor_run(bench, count, 128), lambda _: umbel_peak(bench, count))
    base = mean(floors, "frames_per_second")
    ratio = run["messages_per_second"] / base
    note = f"at {run['rate']:.0f} publications/s, {run['messages_per_frame']:.1f} per frame; {loads(run)}"
    return Result(
        f"{thousands(run['messages_per_second'])} messages/s",
        thousands(base),
        ratio,
        judge(bench, ratio >= 25),
        note,
    )


def messages_to_socketify(bench: Bench, connections: int) -> Result:
    count = bench.effort.connections(connections)
    start = functools.partial(bench.peer, "socketify", data_bytes=128)
    peer = sweep(bench, start, count, 500)
    run = umbel_peak(bench, count)
    ratio = run["messages_per_second"] / peer["messages_per_second"]
    note = f"at {run['rate']:.0f} and {peer['rate']:.0f} publications/s; {loads(run, peer)}"
    return Result(
        f"{thousands(run['messages_per_second'])} messages/s",
        f"{thousands(peer['messages_per_second'])} (socketify)",
        ratio,
        judge(bench, ratio >= 3),
        note,
    )


def load_limit(bench: Bench, connections: int) -> Result:
    """What the load itself can take in and check: the floor program sends many frames at once."""
    count = bench.effort.connections(connections)
    run = floor_run(bench, count, 128, frames_per_send=32)
    rate = run["frames_per_second"]
    return Result(
        f"{thousands(rate)} frames/s", "1,000,000", rate / 1e6, judge(bench, rate >= 1e6), loads(run)
    )


def latency(bench: Bench, connections: int, rate: float, limits: dict[str, float]) -> Result:
    count = bench.effort.connections(connections)
    rate = rate if bench.effort.name != "short" else rate * 5
    floors, run = sandwich(
        bench,
        lambda: floor_run(bench, count, 128, f"rate {rate}"),
        lambda _: umbel_run(bench, count, rate, {"data_bytes": 128}),
    )
    ratios = {
        name: run["latency_oldest_ms"][name] / mean(floors, "latency_oldest_ms", name)
        for name in ("p50", "p95", "p99")
    }
    worst = max(ratios[name] for name in limits)
    passed = all(ratios[name] <= limit for name, limit in limits.items())
    note = ", ".join(f"{name} × {ratio:.2f}" for name, ratio in ratios.items())
    return Result(
        milliseconds(run["latency_oldest_ms"]),
        " and ".join(milliseconds(floor["latency_oldest_ms"]) for floor in floors),
        worst,
        judge(bench, passed),
        note,
    )


def saturation(bench: Bench, connections: int) -> Result:
    """Five publications per pass; a publication may wait for the pass under way, not for two."""
    count = bench.effort.connections(connections)
    floor = floor_run(bench, count, 128)
    rate = 5 * floor["frames_per_second"] / count
    run = umbel_run(bench, count, rate, {"data_bytes": 128, "tick": 0})
    one_pass = pass_seconds(run) * 1000
    ratio = run["latency_ms"]["p95"] / one_pass
    note = (
        f"p95 of the oldest update of each frame {run['latency_oldest_ms']['p95']:.1f} ms; "
        f"floor's pass {pass_seconds(floor) * 1000:.1f} ms"
    )
    return Result(
        f"p95 {run['latency_ms']['p95']:.1f} ms",
        f"pass {one_pass:.1f} ms",
        ratio,
        judge(bench, ratio <= 1.1),
        note,
    )


def overload(bench: Bench, connections: int, factor: float) -> Result:
    """The publisher is faster than the best rate found: losses must be announced, the delivered fresh."""
    count = bench.effort.connections(connections)
    peak = umbel_peak(bench, count)
    deliverable = peak["messages_per_second"] / count
    run = umbel_run(bench, count, factor * deliverable, {"data_bytes": 128})
    ratio = run["messages_per_second"] / peak["messages_per_second"]
    p95, one_pass = run["latency_ms"]["p95"], pass_seconds(run) * 1000
    after = run["server"]["after"]
    note = (
        f"p95 {p95:.1f} ms = {p95 / one_pass:.2f} passes; "
        f"{thousands(run['lost'])} lost in {thousands(run['gaps'])} gaps; "
        f"offered {factor * deliverable:.0f}/s, publisher late by at most {after['late_max_ms']:.0f} ms; "
        f"{loads(run)}"
    )
    return Result(
        f"{thousands(run['messages_per_second'])} messages/s",
        f"{thousands(peak['messages_per_second'])} (peak)",
        ratio,
        judge(bench, ratio >= 0.9 and p95 <= 2 * one_pass),
        note,
    )


def deflate(bench: Bench, connections: int) -> Result:
    count = bench.effort.connections(connections)
    floor = floor_run(bench, count, 1024)
    rate = floor["frames_per_second"] / count
    settings = {"data_bytes": 1024, "payload": "json", "tick": 0}
    plain = umbel_run(bench, count, rate, settings)
    packed = umbel_run(bench, count, rate, settings | {"deflate": True}, deflate=True)
    need(packed["deflate_agreed"] == count, "permessage-deflate was not agreed")
    need(packed["compressed_frames"] > 0, "nothing was compressed")
    ratio = packed["frames_per_second"] / plain["frames_per_second"]
    note = (
        f"{packed['bytes_per_frame']:.0f} instead of {plain['bytes_per_frame']:.0f} bytes per frame; "
        f"floor {thousands(floor['frames_per_second'])} frames/s; {loads(packed, plain)}"
    )
    return Result(
        f"{thousands(packed['frames_per_second'])} frames/s",
        f"{thousands(plain['frames_per_second'])} (plain)",
        ratio,
        judge(bench, ratio >= 1.0),
        note,
    )


def random_channels(bench: Bench, connections: int) -> Result:
    """Ten publications per connection and pass: from one channel, or from the ten each has of a hundred."""
    count = bench.effort.connections(connections)
    floor = floor_run(bench, count, 1024)
    rate = 10 * floor["frames_per_second"] / count
    settings = {"data_bytes": 1024, "payload": "json", "deflate": True}
    sampled = {"deflate": True, "sample_every": 20}
    one = umbel_run(bench, count, rate, settings, **sampled)
    many = umbel_run(
        bench,
        count,
        rate * 10,
        settings | {"channels": 100},
        channels=100,
        per_connection=10,
        random=True,
        **sampled,
    )
    need(many["compressed_frames"] > 0, "nothing was compressed")
    ratio = many["messages_per_second"] / one["messages_per_second"]
    note = (
        f"{many['messages_per_frame']:.1f} and {one['messages_per_frame']:.1f} publications, "
        f"{many['bytes_per_frame']:.0f} and {one['bytes_per_frame']:.0f} bytes per frame; "
        f"{many['server_us_per_frame']:.2f} and {one['server_us_per_frame']:.2f} µs per frame; "
        f"{loads(many, one)}"
    )
    return Result(
        f"{thousands(many['messages_per_second'])} messages/s",
        f"{thousands(one['messages_per_second'])} (one channel)",
        ratio,
        judge(bench, ratio >= 0.8),
        note,
    )


def curve_connections(bench: Bench) -> Result:
    """Server CPU per frame, one publication per pass, against the floor program at each size."""
    sizes = [50, 100] if bench.effort.name == "short" else [1000, 2000, 5000, 10_000, 14_000, 18_000]
    curves: dict[str, list[tuple[float, float]]] = {"Umbel": [], "floor": []}
    ratios = []
    for size in sizes:
        floor = floor_run(bench, size, 128)
        rate = floor["frames_per_second"] / size
        run = umbel_run(bench, size, rate, {"data_bytes": 128, "tick": 0})
        curves["Umbel"].append((size, run["server_us_per_frame"]))
        curves["floor"].append((size, floor["server_us_per_frame"]))
        ratios.append(run["server_us_per_frame"] / floor["server_us_per_frame"])
    return _curve(bench, curves, ratios, sizes, "connections")


def curve_channels(bench: Bench, connections: int) -> Result:
    """Each connection has one channel; five times a second every channel gets one publication."""
    count = bench.effort.connections(connections)
    sizes = [1, 10, count] if bench.effort.name == "short" else [1, 10, 100, 1000, 10_000]
    passes = 5
    floor = floor_run(bench, count, 128, f"rate {passes}")
    curves: dict[str, list[tuple[float, float]]] = {"Umbel": [], "floor": []}
    ratios = []
    for channels in sizes:
        each = delivery_cost(bench, count, channels, passes)
        curves["Umbel"].append((channels, each))
        curves["floor"].append((channels, floor["server_us_per_frame"]))
        ratios.append(each / floor["server_us_per_frame"])
    return _curve(bench, curves, ratios, sizes, "channels")


def delivery_cost(bench: Bench, count: int, channels: int, passes: int) -> float:
    """Server µs per delivery. Each connection has one channel; each pass publishes once to every channel."""
    settings = {"data_bytes": 128, "channels": channels, "each": True}
    # A short run with few deliveries costs hardly more than the clocks can tell.
    pace = 100 if bench.effort.name == "short" else passes
    run = umbel_run(bench, count, pace, settings, channels=channels)
    # The publisher is Python's: a cost per publication, not per delivery, and taken off.
    publisher = sum(publisher_seconds(run, part) for part in ("publish", "overhead"))
    cost = float(run["server_us_per_frame"] - publisher * 1e6 / run["frames"])
    need(cost > 0, "the publisher seems to have cost more than all of the server: the run was too short")
    return cost


def _curve(
    bench: Bench,
    curves: dict[str, list[tuple[float, float]]],
    ratios: list[float],
    sizes: list[int],
    unit: str,
) -> Result:
    spread = max(ratios) / min(ratios)
    figures = ", ".join(f"{cost:.2f}" for _, cost in curves["Umbel"])
    floors = ", ".join(f"{cost:.2f}" for _, cost in curves["floor"])
    return Result(
        f"{figures} µs",
        f"{floors} µs",
        spread,
        judge(bench, spread <= 1.2),
        f"at {', '.join(f'{size:,}' for size in sizes)} {unit}; ratio: largest over smallest Umbel / floor",
        curves=curves,
    )

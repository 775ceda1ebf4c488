"""The rows of the table of goals: what each measures, and when it is passed. `README.md` says the method in words."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness import Answer, Bench, BenchError, Server


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


@dataclass(frozen=True)
class Row:
    name: str
    what: str
    goal: str
    run: Callable[[Bench], Result]


# What Umbel puts around one publication's data in a frame: the floor program's frames have the same.
ENVELOPE_BYTES = 134
CLOSE_TO_SATURATED = 1.05


def need(condition: bool, what: str) -> None:
    """Says that a result is not valid; never a judgement of a figure."""
    if not condition:
        raise BenchError(what)


def delivered(run: Answer) -> Answer:
    """Checks that a run delivered, that the sample was checked, and that announced gaps explain what is missing."""
    need(run["frames"] > 0, "no frames in the window")
    need(run["total"]["checked_updates"] > 0, "no update was checked")
    need(run["live"] == run["connections"], "connections were lost")
    published = run["server"]["after"].get("published")
    settled = run["position_max"] is not None and run["position_min"] == run["position_max"]
    if run["server"]["name"] != "floor" and run["channels"] == 1 and settled and not run["compressed_frames"]:
        total, start = run["total"], run["server"]["before"]["published"]
        need(run["position_max"] <= published, "more was delivered than published")
        expected = (run["position_max"] - run.get("position_start", 0)) * run["connections"]
        if start <= 1:
            need(total["messages"] + total["lost"] == expected, "delivered and lost do not add up to what was published")
    return run


def floor_run(bench: Bench, connections: int, data_bytes: int, command: str = "saturate", **options: Any) -> Answer:
    with bench.floor(max(data_bytes, 24)) as floor:
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


# frames per second ----------------------------------------------------------------------------------------------------


def frames(bench: Bench, connections: int, data_bytes: int) -> Result:
    """One publication per pass: the publisher goes slightly faster than the floor program's passes, and the tick is 0."""
    count = bench.effort.connections(connections)

    def subject(floor: Answer) -> Answer:
        rate = floor["frames_per_second"] / count * CLOSE_TO_SATURATED
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
        f"{thousands(run['frames_per_second'])} frames/s", thousands(base), ratio, judge(bench, ratio >= 0.95), note
    )


# messages per second --------------------------------------------------------------------------------------------------


def sweep(bench: Bench, start: Callable[[], Server], connections: int, rate: float) -> Answer:
    """Doubles the publishing rate until deliveries fall behind, then looks between the last two; returns the best run."""
    best: Answer | None = None
    steps = 2 if bench.effort.name == "short" else 8

    def attempt(rate: float) -> tuple[Answer, bool]:
        with start() as server:
            run = bench.fanout(server, f"rate {rate:.3f}", connections=connections, drain=0.5)
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
        f"{thousands(run['messages_per_second'])} messages/s", thousands(base), ratio, judge(bench, ratio >= 25), note
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


# latency --------------------------------------------------------------------------------------------------------------


def latency(bench: Bench, connections: int, rate: float, limits: dict[str, float]) -> Result:
    count = bench.effort.connections(connections)
    rate = rate if bench.effort.name != "short" else rate * 5
    floors, run = sandwich(
        bench,
        lambda: floor_run(bench, count, 128, f"rate {rate}"),
        lambda _: umbel_run(bench, count, rate, {"data_bytes": 128}),
    )
    ratios = {
        name: run["latency_oldest_ms"][name] / mean(floors, "latency_oldest_ms", name) for name in ("p50", "p95", "p99")
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
    note = f"p95 of the oldest update of each frame {run['latency_oldest_ms']['p95']:.1f} ms; floor's pass {pass_seconds(floor) * 1000:.1f} ms"
    return Result(f"p95 {run['latency_ms']['p95']:.1f} ms", f"pass {one_pass:.1f} ms", ratio, judge(bench, ratio <= 1.1), note)


def overload(bench: Bench, connections: int, factor: float) -> Result:
    """The publisher goes faster than the best rate found: the rest must be announced, and the delivered must stay fresh."""
    count = bench.effort.connections(connections)
    peak = umbel_peak(bench, count)
    deliverable = peak["messages_per_second"] / count
    run = umbel_run(bench, count, factor * deliverable, {"data_bytes": 128}, drain=1.0)
    ratio = run["messages_per_second"] / peak["messages_per_second"]
    p95, one_pass = run["latency_ms"]["p95"], pass_seconds(run) * 1000
    after = run["server"]["after"]
    note = (
        f"p95 {p95:.1f} ms = {p95 / one_pass:.2f} passes; {thousands(run['lost'])} lost in {thousands(run['gaps'])} gaps; "
        f"offered {factor * deliverable:.0f}/s, publisher late by at most {after['late_max_ms']:.0f} ms; {loads(run)}"
    )
    return Result(
        f"{thousands(run['messages_per_second'])} messages/s",
        f"{thousands(peak['messages_per_second'])} (peak)",
        ratio,
        judge(bench, ratio >= 0.9 and p95 <= 2 * one_pass),
        note,
    )


# CPU ------------------------------------------------------------------------------------------------------------------


def cpu(bench: Bench, connections: int, rate: float) -> Result:
    """The floor program then sends as many frames of the same size at the same pace."""
    count = bench.effort.connections(connections)
    run = umbel_run(bench, count, rate, {"data_bytes": 128})
    passes = run["frames_per_second"] / count
    size = int(run["bytes_per_frame"]) - ENVELOPE_BYTES
    floor = floor_run(bench, count, size, f"rate {passes:.4f}")
    ratio = run["server_us_per_frame"] / floor["server_us_per_frame"]
    server = run["server"]
    publisher = server["after"].get("publisher_cpu_seconds", 0) - server["before"].get("publisher_cpu_seconds", 0)
    note = (
        f"{run['server_us_per_frame']:.2f} and {floor['server_us_per_frame']:.2f} µs per frame, "
        f"{run['messages_per_frame']:.1f} publications per frame; of it Python's publisher about "
        f"{publisher / run['window_seconds'] * 100:.2f} %"
    )
    return Result(
        f"{run['server_cpu_percent']:.2f} %", f"{floor['server_cpu_percent']:.2f} %", ratio, judge(bench, ratio <= 1.1), note
    )


def idle(bench: Bench, connections: int) -> Result:
    count = bench.effort.connections(connections)
    seconds = 0.3 if bench.effort.name == "short" else 30
    with bench.umbel(data_bytes=128) as umbel:
        load = bench.load("idle", umbel, connections=count, deflate=True, seconds=seconds)
        run = load.result()
    need(run["live"] == count, "connections were lost")
    used = run["server_cpu_percent"]
    return Result(f"{used:.2f} %", "0.5 %", used / 0.5, judge(bench, used < 0.5), f"{run['pings']} pings in {seconds} s")


# compression ----------------------------------------------------------------------------------------------------------


def deflate(bench: Bench, connections: int) -> Result:
    count = bench.effort.connections(connections)
    floor = floor_run(bench, count, 1024)
    rate = floor["frames_per_second"] / count * CLOSE_TO_SATURATED
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
    """About ten publications per connection and pass, once from one channel, once from the ten each has of a hundred."""
    count = bench.effort.connections(connections)
    floor = floor_run(bench, count, 1024)
    rate = 10 * floor["frames_per_second"] / count
    settings = {"data_bytes": 1024, "payload": "json", "deflate": True}
    sampled = {"deflate": True, "sample_every": 20}
    one = umbel_run(bench, count, rate, settings, **sampled)
    many = umbel_run(
        bench, count, rate * 10, settings | {"channels": 100}, channels=100, per_connection=10, random=True, **sampled
    )
    need(many["compressed_frames"] > 0, "nothing was compressed")
    ratio = many["messages_per_second"] / one["messages_per_second"]
    note = (
        f"{many['messages_per_frame']:.1f} and {one['messages_per_frame']:.1f} publications, "
        f"{many['bytes_per_frame']:.0f} and {one['bytes_per_frame']:.0f} bytes per frame; "
        f"{many['server_us_per_frame']:.2f} and {one['server_us_per_frame']:.2f} µs per frame; {loads(many, one)}"
    )
    return Result(
        f"{thousands(many['messages_per_second'])} messages/s",
        f"{thousands(one['messages_per_second'])} (one channel)",
        ratio,
        judge(bench, ratio >= 0.8),
        note,
    )


# publish(), memory, connects ------------------------------------------------------------------------------------------


def publish_cost(bench: Bench, connections: int) -> Result:
    count = bench.effort.connections(connections)
    calls = 400 if bench.effort.name == "short" else 20_000
    with bench.umbel(data_bytes=128) as umbel:
        alone = umbel.ask(f"timeit {calls}", timeout=120)
        load = bench.load("fanout", umbel, connections=count, wait=True, drain=0.5, seconds=0.1, warmup=0)
        load.wait_ready()
        watched = umbel.ask(f"timeit {calls}", timeout=120)
        load.go()
        run = load.result()
    need(run["live"] == count, "connections were lost")
    zero, many = alone["publish_cpu_ns"]["p50"] / 1000, watched["publish_cpu_ns"]["p50"] / 1000
    wall = watched["publish_wall_ns"]["p50"] / 1000
    return Result(
        f"{many:.2f} µs",
        f"{zero:.2f} µs (no subscriber)",
        many / zero,
        judge(bench, max(zero, many) < 1.5 and many < 1.25 * zero),
        f"median of bursts, the caller's CPU; by the clock {wall:.2f} µs, where the flush shares the core",
        {"alone": alone, "watched": watched},
    )


def memory(bench: Bench, connections: int, identity: bool) -> Result:
    """Growth of the server's private memory; a first crowd comes and goes before, so that pools are warm."""
    count = bench.effort.connections(connections)
    limit = 4096 if identity else 2048
    extra: dict[str, Any] = {"header": "X-User: someone-with-a-name"} if identity else {"no_subscribe": True}
    with bench.umbel(data_bytes=128, identify=identity) as umbel:
        warm = bench.load("idle", umbel, connections=max(1, count // 20), deflate=True, seconds=0.1, warmup=0, **extra)
        warm.result()
        time.sleep(min(1.0, bench.effort.warmup))
        before = umbel.memory()
        load = bench.load("idle", umbel, connections=count, deflate=True, wait=True, seconds=0.1, **extra)
        load.wait_ready()
        time.sleep(bench.effort.warmup)
        after = umbel.memory()
        load.go()
        run = load.result()
    need(run["live"] == count, "connections were lost")
    need(run["deflate_agreed"] == count, "permessage-deflate was not agreed")
    each = (after - before) / count
    note = f"private memory {before / 2**20:.1f} MiB before, {after / 2**20:.1f} MiB with {count} connections"
    return Result(f"{each / 1024:.2f} KiB", f"{limit // 1024} KiB", each / limit, judge(bench, each <= limit), note)


def connects(bench: Bench) -> Result:
    """Each connection is closed as soon as it is established; 200 are on their way at any moment."""
    with bench.umbel(data_bytes=128) as umbel:
        concurrency = 20 if bench.effort.name == "short" else 200
        run = bench.load("connect", umbel, concurrency=concurrency, sources=8).result()
    need(run["connects"] > 0, "no connection was established")
    rate = run["connects_per_second"]
    connect = run["connect_ms"]
    note = f"mean {connect['mean']:.2f} ms, p99 {connect['p99']:.2f} ms; server CPU {run['server_cpu_percent']:.0f} %, {loads(run)}"
    return Result(f"{thousands(rate)}/s", "20,000/s", rate / 20_000, judge(bench, rate >= 20_000), note)


def reconnect(bench: Bench, connections: int) -> Result:
    """All come at once, and stay."""
    count = bench.effort.connections(connections)
    with bench.umbel(data_bytes=128) as umbel:
        run = bench.load(
            "connect", umbel, connections=count, concurrency=count, hold=True, deflate=True, no_subscribe=True, seconds=0.1
        ).result()
    need(run["live"] == count, "connections were lost")
    connect = run["connect_ms"]
    note = f"p99 {connect['p99']:.0f} ms, all open after {run['open_seconds']:.2f} s, from the first connect() on"
    return Result(f"mean {connect['mean']:.1f} ms", "50 ms", connect["mean"] / 50, judge(bench, connect["mean"] < 50), note)


# trouble --------------------------------------------------------------------------------------------------------------


def blocked(bench: Bench, connections: int) -> Result:
    """A handler holds the interpreter lock for 3 s; a client publishes, others connect, and pings are answered."""
    count = bench.effort.connections(connections)
    short = bench.effort.name == "short"
    hold, seconds = (0.5, 0.6) if short else (3.0, 4.0)

    def window(umbel: Server, block: bool) -> tuple[Answer, Answer | None]:
        load = bench.load(
            "fanout", umbel, connections=count, wait=True, publish_rate=50, ping_rate=50, seconds=seconds, drain=0.5
        )
        try:
            load.wait_ready()
            load.go()
            time.sleep(bench.effort.warmup + 0.1)
            newcomers = None
            if block:
                umbel.ask(f"block {hold}")
                options = {"connections": 20, "hold": True, "warmup": 0, "seconds": 0.05, "timeout": hold + 10}
                newcomers = bench.load("connect", umbel, no_subscribe=True, **options).result()
            return load.result(), newcomers
        finally:
            load.end()

    with bench.umbel(data_bytes=128) as umbel:
        free, _ = window(umbel, block=False)
        held, newcomers = window(umbel, block=True)
    assert newcomers is not None
    need(free["frames"] > 0 and held["frames"] > 0, "no frames in the window")
    need(held["pong_ms"] is not None, "no ping was answered")
    p95, base = held["latency_oldest_ms"]["p95"], free["latency_oldest_ms"]["p95"]
    accepted = newcomers["connect_ms"]["max"] < hold * 500
    share = held["frames"] / free["frames"]
    note = (
        f"{share * 100:.0f} % of the frames; pong p99 {held['pong_ms']['p99']:.1f} ms (free {free['pong_ms']['p99']:.1f}); "
        f"{newcomers['connects']} connects meanwhile, the longest {newcomers['connect_ms']['max']:.1f} ms"
    )
    passed = p95 <= 1.1 * base and accepted and share > 0.95 and held["pong_ms"]["p99"] < hold * 500
    return Result(f"p95 {p95:.2f} ms", f"{base:.2f} ms (free)", p95 / base, judge(bench, passed), note)


def never_reading(bench: Bench, connections: int, slow: int) -> Result:
    """The log is filled by the first window, without the slow ones; then memory may not grow."""
    count = bench.effort.connections(connections)
    slow = min(slow, count)
    short = bench.effort.name == "short"
    with bench.umbel(data_bytes=128) as umbel:
        before = bench.fanout(umbel, "rate 1000", connections=count, drain=0.5)
        load = bench.load("fanout", umbel, connections=count, slow=slow, wait=True, seconds=0.5 if short else 60, drain=0.5)
        try:
            load.wait_ready()
            quiet = umbel.memory()
            umbel.ask("rate 1000")
            load.go()
            load.wait_window()
            umbel.ask("rate 0")
            loud = umbel.memory()
            run = load.result()
        finally:
            load.end()
    need(run["live"] == count, "connections were lost")
    growth = loud - quiet
    p95, base = run["latency_ms"]["p95"], before["latency_ms"]["p95"]
    note = f"p95 of the others {p95:.2f} ms, without them {base:.2f} ms (× {p95 / base:.2f})"
    passed = growth < 2**20 and p95 <= 1.1 * base
    return Result(f"{growth / 2**20:.2f} MiB", "1 MiB", growth / 2**20, judge(bench, passed), note)


# curves ---------------------------------------------------------------------------------------------------------------


def curve_connections(bench: Bench) -> Result:
    """Server CPU per frame, one publication per pass, against the floor program at each size."""
    sizes = [50, 100] if bench.effort.name == "short" else [1000, 2000, 5000, 10_000, 14_000, 18_000]
    curves: dict[str, list[tuple[float, float]]] = {"Umbel": [], "floor": []}
    ratios = []
    for size in sizes:
        floor = floor_run(bench, size, 128)
        rate = floor["frames_per_second"] / size * CLOSE_TO_SATURATED
        run = umbel_run(bench, size, rate, {"data_bytes": 128, "tick": 0})
        curves["Umbel"].append((size, run["server_us_per_frame"]))
        curves["floor"].append((size, floor["server_us_per_frame"]))
        ratios.append(run["server_us_per_frame"] / floor["server_us_per_frame"])
    return _curve(bench, curves, ratios, sizes, "connections")


def curve_channels(bench: Bench, connections: int) -> Result:
    """Each connection has one channel; each pass publishes to every channel once, at most 5 passes a second."""
    count = bench.effort.connections(connections)
    sizes = [1, 10, count] if bench.effort.name == "short" else [1, 10, 100, 1000, 10_000]
    passes = 5
    floor = floor_run(bench, count, 128, f"rate {passes}")
    curves: dict[str, list[tuple[float, float]]] = {"Umbel": [], "floor": []}
    ratios = []
    for channels in sizes:
        # The publisher is Python's: a cost per publication, not per delivery, and taken off.
        run = umbel_run(bench, count, passes * channels, {"data_bytes": 128, "channels": channels}, channels=channels)
        server = run["server"]
        publisher = server["after"].get("publisher_cpu_seconds", 0) - server["before"].get("publisher_cpu_seconds", 0)
        share = run["window_seconds"] / (run["window_seconds"] + bench.effort.warmup)
        each = run["server_us_per_frame"] - publisher * share * 1e6 / run["frames"]
        curves["Umbel"].append((channels, each))
        curves["floor"].append((channels, floor["server_us_per_frame"]))
        ratios.append(each / floor["server_us_per_frame"])
    return _curve(bench, curves, ratios, sizes, "channels")


def _curve(
    bench: Bench, curves: dict[str, list[tuple[float, float]]], ratios: list[float], sizes: list[int], unit: str
) -> Result:
    spread = max(ratios) / min(ratios)
    figures = ", ".join(f"{cost:.2f}" for _, cost in curves["Umbel"])
    floors = ", ".join(f"{cost:.2f}" for _, cost in curves["floor"])
    return Result(
        f"{figures} µs",
        f"{floors} µs",
        spread,
        judge(bench, spread <= 1.2),
        f"at {', '.join(f'{size:,}' for size in sizes)} {unit}; the ratio is the largest over the smallest of Umbel / floor",
        curves=curves,
    )


def _rows() -> list[Row]:
    part = functools.partial
    sizes = [(count, data) for count in (1000, 10_000) for data in (128, 1024, 8192)]
    every = [
        Row(f"frames-{count}-{data}", f"frames/s to {count:,}, {data} B", "≥ 0.95 × floor", part(frames, connections=count, data_bytes=data))
        for count, data in sizes
    ]
    tight = {"p50": 1.1, "p95": 1.1, "p99": 1.1}
    every += [
        Row("messages-10000", "messages/s to 10,000, 128 B", "≥ 25 × floor's frames/s", part(messages_to_floor, connections=10_000)),
        Row("messages-1000-socketify", "messages/s to 1,000, against socketify", "≥ 3 ×", part(messages_to_socketify, connections=1000)),
        Row("latency-10000-10", "latency p50 / p95 / p99, 10,000 × 10/s", "≤ 1.1 × floor", part(latency, connections=10_000, rate=10, limits=tight)),
        Row("latency-1000-10", "latency p50 / p95 / p99, 1,000 × 10/s", "p99 < 1.2 × floor", part(latency, connections=1000, rate=10, limits={"p99": 1.2})),
        Row("saturation-10000", "p95 under saturation, 10,000", "≤ 1.1 × one pass", part(saturation, connections=10_000)),
        Row("overload-2x", "publisher at 2 × the deliverable", "≥ 0.9 × peak, p95 < 2 passes", part(overload, connections=10_000, factor=2)),
        Row("overload-4x", "publisher at 4 × the deliverable", "≥ 0.9 × peak, p95 < 2 passes", part(overload, connections=10_000, factor=4)),
        *(
            Row(f"cpu-1000-{rate}", f"server CPU, 1,000 × {rate}/s", "≤ 1.1 × floor", part(cpu, connections=1000, rate=rate))
            for rate in (10, 100, 1000)
        ),
        Row("idle-10000", "idle CPU, 10,000", "< 0.5 %", part(idle, connections=10_000)),
        Row("deflate-10000", "deflate against plain, 1 KiB JSON, 10,000", "≥ 1.0 × plain", part(deflate, connections=10_000)),
        Row("random-channels", "10 of 100 channels each, deflate, 10,000", "≥ 0.8 × one channel", part(random_channels, connections=10_000)),
        Row("publish-cost", "one publish(), 0 and 10,000 subscribers", "< 1.5 µs, the same", part(publish_cost, connections=10_000)),
        Row("memory-bare", "memory per idle connection, bare", "≤ 2 KiB", part(memory, connections=10_000, identity=False)),
        Row("memory-identity", "memory with identity and subscription", "≤ 4 KiB", part(memory, connections=10_000, identity=True)),
        Row("connects", "connects/s, one core", "≥ 20,000/s", connects),
        Row("reconnect-10000", "connect time, 10,000 at once", "mean < 50 ms", part(reconnect, connections=10_000)),
        Row("blocked", "interpreter blocked for 3 s, 1,000", "p95 ≤ 1.1 ×, pongs and accepts go on", part(blocked, connections=1000)),
        Row("curve-connections", "server µs per frame, 1,000 to 18,000 connections", "flat within 1.2 × of floor's", curve_connections),
        Row("curve-channels", "server µs per delivery, 1 to 10,000 channels", "flat within 1.2 × of floor's", part(curve_channels, connections=10_000)),
        Row("never-reading", "100 never read, a minute at 1,000/s", "< 1 MiB, others' p95 ≤ 1.1 ×", part(never_reading, connections=1000, slow=100)),
    ]
    return every


ROWS = {row.name: row for row in _rows()}

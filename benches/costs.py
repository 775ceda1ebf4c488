"""Rows about what it costs and about trouble: CPU, memory, connects, a blocked interpreter, slow readers."""

from __future__ import annotations

import time
from typing import Any

from harness import Answer, Bench, Server
from measure import (
    ENVELOPE_BYTES,
    Result,
    floor_run,
    judge,
    loads,
    milliseconds,
    need,
    publisher_seconds,
    server_percent,
    thousands,
    umbel_run,
)


def cpu(bench: Bench, connections: int, rate: float) -> Result:
    """The floor program then sends as many frames of the same size at the same pace."""
    count = bench.effort.connections(connections)
    run = umbel_run(bench, count, rate, {"data_bytes": 128})
    passes = run["frames_per_second"] / count
    size = int(run["bytes_per_frame"]) - ENVELOPE_BYTES
    floor = floor_run(bench, count, size, f"rate {passes:.4f}")
    publishing = publisher_seconds(run, "publish") / run["window_seconds"] * 100
    used = server_percent(run)
    overhead = run["server_cpu_percent"] - used
    ratio = used / floor["server_cpu_percent"]
    note = (
        f"{run['server_us_per_frame']:.2f} and {floor['server_us_per_frame']:.2f} µs per frame, "
        f"{run['messages_per_frame']:.1f} publications per frame; publish() {publishing:.2f} %; "
        f"the bench's pace and data, {overhead:.2f} %, taken off"
    )
    return Result(
        f"{used:.2f} %",
        f"{floor['server_cpu_percent']:.2f} %",
        ratio,
        judge(bench, ratio <= 1.1),
        note,
    )


def idle(bench: Bench, connections: int) -> Result:
    count = bench.effort.connections(connections)
    seconds = 0.3 if bench.effort.name == "short" else 30
    with bench.umbel(data_bytes=128) as umbel:
        load = bench.load("idle", umbel, connections=count, deflate=True, seconds=seconds)
        run = load.result()
    need(run["live"] == count, "connections were lost")
    used = run["server_cpu_percent"]
    return Result(
        f"{used:.2f} %", "0.5 %", used / 0.5, judge(bench, used < 0.5), f"{run['pings']} pings in {seconds} s"
    )


def publish_cost(bench: Bench, connections: int) -> Result:
    calls = 400 if bench.effort.name == "short" else 20_000
    alone, watched = publish_times(bench, connections, calls)
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


def publish_times(bench: Bench, connections: int, calls: int) -> tuple[Answer, Answer]:
    """Times publish() without a subscriber, then with this many."""
    count = bench.effort.connections(connections)
    with bench.umbel(data_bytes=128) as umbel:
        alone = umbel.ask(f"timeit {calls}", timeout=120)
        load = bench.load("fanout", umbel, connections=count, wait=True, drain=0.5, seconds=0.1, warmup=0)
        load.wait_ready()
        watched = umbel.ask(f"timeit {calls}", timeout=120)
        load.go()
        run = load.result()
    need(run["live"] == count, "connections were lost")
    return alone, watched


def memory(bench: Bench, connections: int, identity: bool) -> Result:
    count = bench.effort.connections(connections)
    limit = 4096 if identity else 2048
    before, after = idle_memory(bench, count, identity)
    each = (after - before) / count
    note = f"its memory {before / 2**20:.1f} MiB before, {after / 2**20:.1f} MiB with {count} connections"
    return Result(
        f"{each / 1024:.2f} KiB", f"{limit // 1024} KiB", each / limit, judge(bench, each <= limit), note
    )


def idle_memory(bench: Bench, count: int, identity: bool, streams: bool = False) -> tuple[int, int]:
    """The server's own bytes without connections and with this many.

    A first crowd comes and goes before, so that pools are warm.
    """
    extra: dict[str, Any] = {"headers": ["X-User: someone-with-a-name"]} if identity else {"subscribe": False}
    extra |= {"streams": True} if streams else {"deflate": True}
    with bench.umbel(data_bytes=128, identify=identity) as umbel:
        warm = bench.load("idle", umbel, connections=max(1, count // 20), seconds=0.1, warmup=0, **extra)
        warm.result()
        time.sleep(min(1.0, bench.effort.warmup))
        before = umbel.memory()
        load = bench.load("idle", umbel, connections=count, wait=True, seconds=0.1, **extra)
        load.wait_ready()
        time.sleep(bench.effort.warmup)
        after = umbel.memory()
        load.go()
        run = load.result()
    need(run["live"] == count, "connections were lost")
    need(streams or run["deflate_agreed"] == count, "permessage-deflate was not agreed")
    return before, after


def connects(bench: Bench) -> Result:
    run = connect_run(bench)
    rate = run["connects_per_second"]
    connect = run["connect_ms"]
    note = (
        f"mean {connect['mean']:.2f} ms, p99 {connect['p99']:.2f} ms; "
        f"server CPU {run['server_cpu_percent']:.0f} %, {loads(run)}"
    )
    return Result(f"{thousands(rate)}/s", "20,000/s", rate / 20_000, judge(bench, rate >= 20_000), note)


def connect_run(bench: Bench) -> Answer:
    """Each connection is closed as soon as it is established; 200 are on their way at any moment."""
    with bench.umbel(data_bytes=128) as umbel:
        concurrency = 20 if bench.effort.name == "short" else 200
        run = bench.load("connect", umbel, concurrency=concurrency).result()
    need(run["connects"] > 0, "no connection was established")
    return run


def reconnect(bench: Bench, connections: int) -> Result:
    """All come at once, and stay."""
    count = bench.effort.connections(connections)
    with bench.umbel(data_bytes=128) as umbel:
        run = bench.load(
            "idle",
            umbel,
            connections=count,
            concurrency=count,
            deflate=True,
            subscribe=False,
            seconds=0.1,
        ).result()
    need(run["live"] == count, "connections were lost")
    connect = run["connect_ms"]
    note = f"p99 {connect['p99']:.0f} ms, all open {run['open_seconds']:.2f} s after the first connect()"
    return Result(
        f"mean {connect['mean']:.1f} ms",
        "50 ms",
        connect["mean"] / 50,
        judge(bench, connect["mean"] < 50),
        note,
    )


def blocked(bench: Bench, connections: int) -> Result:
    """A handler holds the interpreter lock; a client publishes, others connect, pings are answered."""
    count = bench.effort.connections(connections)
    short = bench.effort.name == "short"
    hold, seconds = (0.5, 0.6) if short else (3.0, 4.0)
    with bench.umbel(data_bytes=128) as umbel:
        free, _ = blocked_window(bench, umbel, count, 0, seconds)
        held, newcomers = blocked_window(bench, umbel, count, hold, seconds)
    p95, base = held["latency_oldest_ms"]["p95"], free["latency_oldest_ms"]["p95"]
    accepted = newcomers["connect_ms"]["max"] < hold * 500
    share = held["frames"] / free["frames"]
    note = (
        f"{share * 100:.0f} % of the frames; "
        f"pong p99 {held['pong_ms']['p99']:.1f} ms (free {free['pong_ms']['p99']:.1f}); "
        f"{newcomers['connects']} connects meanwhile, the longest {newcomers['connect_ms']['max']:.1f} ms"
    )
    passed = p95 <= 1.1 * base and accepted and share > 0.95 and held["pong_ms"]["p99"] < hold * 500
    return Result(f"p95 {p95:.2f} ms", f"{base:.2f} ms (free)", p95 / base, judge(bench, passed), note)


def blocked_window(
    bench: Bench, umbel: Server, count: int, hold: float, seconds: float
) -> tuple[Answer, Answer]:
    """Measures readers and newcomers while the interpreter is blocked, unless ``hold`` is 0 seconds."""
    options = {"publishers": 1, "publish_rate": 50, "ping_rate": 50, "seconds": seconds, "drain": 0.5}
    load = bench.load("fanout", umbel, connections=count, wait=True, **options)
    # To start a program takes a while of the processor that both loads have.
    options = {"connections": 20, "warmup": 0, "seconds": 0.05, "timeout": hold + 10}
    newcomers_load = bench.load("idle", umbel, begin=False, subscribe=False, **options)
    try:
        load.wait_ready()
        newcomers_load.wait_started()
        load.go()
        time.sleep(bench.effort.warmup + 0.1)
        if hold:
            umbel.ask(f"block {hold}")
        newcomers_load.begin()
        newcomers = newcomers_load.result()
        run = load.result()
    finally:
        newcomers_load.end()
        load.end()
    need(run["frames"] > 0, "no frames in the window")
    need(run["pong_ms"] is not None, "no ping was answered")
    return run, newcomers


def requests(bench: Bench, in_flight: int, goal: int) -> Result:
    """Messages with an ``id`` to a ``def`` handler, and an echo on a websocket path of the same server."""
    with bench.umbel(data_bytes=128, requests=True) as umbel:
        run = request_run(bench, umbel, in_flight, message_type="ask_now")
        echo = request_run(bench, umbel, in_flight, path="/echo", until="upgrade", echo=True)
    note = f"{quantiles(run)}; {thread_costs(run)}; echo: {thread_costs(echo)}; {loads(run, echo)}"
    return compared(run, echo, "echo", judge(bench, run["answers_per_second"] >= goal), note)


def async_requests(bench: Bench) -> Result:
    """The same messages to an ``async`` handler that does not wait, and to a ``def`` handler."""
    with bench.umbel(data_bytes=128, requests=True) as umbel:
        run = request_run(bench, umbel, 32, message_type="ask")
        plain = request_run(bench, umbel, 32, message_type="ask_now")
    passed = judge(bench, run["answers_per_second"] >= 0.95 * plain["answers_per_second"])
    note = f"{quantiles(run)}; {thread_costs(run)}; def: {thread_costs(plain)}; {loads(run, plain)}"
    return compared(run, plain, "def", passed, note)


def requests_to(bench: Bench, name: str, in_flight: int) -> Result:
    """A ``def`` handler, and a peer that answers the same messages."""
    with bench.umbel(data_bytes=128, requests=True) as umbel:
        run = request_run(bench, umbel, in_flight, message_type="ask_now")
    with bench.answering(name) as server:
        peer = request_run(bench, server, in_flight, until="upgrade")
    costs = f"CPU per message {process_cost(run)}, {name} {process_cost(peer)}"
    return compared(
        run, peer, name, None, f"{quantiles(run)}, {name} {quantiles(peer)}; {costs}; {loads(run, peer)}"
    )


def compared(run: Answer, other: Answer, name: str, passed: bool | None, note: str) -> Result:
    rate, other_rate = run["answers_per_second"], other["answers_per_second"]
    return Result(
        f"{thousands(rate)} answers/s", f"{thousands(other_rate)} ({name})", rate / other_rate, passed, note
    )


def quantiles(run: Answer) -> str:
    return f"p50 / p95 / p99 {milliseconds(run['answer_ms'])}"


def process_cost(run: Answer) -> str:
    return f"{sum(run['server_threads_seconds'].values()) / run['answers'] * 1e6:.1f} µs"


def request_run(bench: Bench, server: Server, in_flight: int, **options: Any) -> Answer:
    """Keeps requests unanswered on 50 connections; the load checks each answer."""
    connections = 50
    load = bench.load(
        "request", server, connections=connections, in_flight=in_flight, data_bytes=128, drain=5, **options
    )
    run = load.result()
    bench.runs.append(run)
    need(run["live"] == connections, "connections were lost")
    need(run["answers"] > 0, "no answers in the window")
    return run


def thread_costs(run: Answer) -> str:
    """CPU per answer of the server's two threads that do the work."""
    threads = {"Python": "main", "shard": "umbel-shard-0"}
    costs = {who: run["server_threads_seconds"][name] / run["answers"] for who, name in threads.items()}
    return "CPU per message " + ", ".join(f"{who} {seconds * 1e6:.1f} µs" for who, seconds in costs.items())


def burst(bench: Bench, connections: int, count: int) -> Result:
    """Twice more publications in one loop than the history holds: all arrive, and memory comes back."""
    connections = bench.effort.connections(connections)
    with bench.umbel(data_bytes=128) as umbel:
        load = bench.load("fanout", umbel, connections=connections, wait=True, seconds=4, drain=0.5)
        try:
            load.wait_ready()
            load.go()
            # The first one also makes the buffers that are kept.
            memory = []
            for _ in range(2):
                umbel.ask(f"burst {count}")
                time.sleep(1.8)
                memory.append(umbel.memory())
            load.wait_window()
            run = load.result()
        finally:
            load.end()
    need(run["live"] == connections, "connections were lost")
    total, expected = run["total"], 2 * count * connections
    need(
        total["messages"] + total["lost"] == expected,
        "delivered and lost do not add up to what was published",
    )
    growth = memory[1] - memory[0]
    note = f"{total['gaps']} gaps; the second one leaves {growth / 2**20:+.2f} MiB"
    passed = total["gaps"] == 0 and growth < 2**19
    return Result(
        f"{total['messages']:,} messages",
        f"{expected:,}",
        total["messages"] / expected,
        judge(bench, passed),
        note,
    )


def never_reading(bench: Bench, connections: int, slow: int) -> Result:
    """The log is filled by the first window, without the slow ones; then memory may not grow."""
    count = bench.effort.connections(connections)
    slow = min(slow, count)
    short = bench.effort.name == "short"
    # Neither a heartbeat nor a write that makes no progress may end the slow ones while they are measured.
    with bench.umbel(data_bytes=128, heartbeat=600, write_timeout=600) as umbel:
        before = bench.fanout(umbel, "rate 1000", connections=count)
        load = bench.load(
            "fanout", umbel, connections=count, slow=slow, wait=True, seconds=0.5 if short else 60, drain=0.5
        )
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
    need(run["slow_open"] == slow, "slow readers were closed")
    growth = loud - quiet
    p95, base = run["latency_ms"]["p95"], before["latency_ms"]["p95"]
    note = f"p95 of the others {p95:.2f} ms, without them {base:.2f} ms (× {p95 / base:.2f})"
    passed = growth < 2**20 and p95 <= 1.1 * base
    return Result(f"{growth / 2**20:.2f} MiB", "1 MiB", growth / 2**20, judge(bench, passed), note)

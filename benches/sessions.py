"""Rows about sessions: clients that lose their connections and come back, and what that costs."""

from __future__ import annotations

import time
from typing import Any

from harness import Answer, Bench, Server
from measure import Result, judge, loads, need


def resume(bench: Bench, connections: int) -> Result:
    """All sockets are reset at once, and 100 publications/s to each client go on."""
    count = bench.effort.connections(connections)
    with server(bench) as umbel:
        run = come_back(bench, umbel, count, within=1.0)
    connect, caught_up = run["returns"]["connect_ms"]["mean"], run["returns"]["caught_up_ms"]["p95"]
    return Result(
        f"p95 {caught_up:.0f} ms, connect {connect:.0f} ms",
        "2,000 ms, 250 ms",
        caught_up / 2000,
        judge(bench, caught_up < 2000 and connect < 250),
        note(run),
    )


def resume_slowly(bench: Bench, connections: int, others: int) -> Result:
    """The same within ten seconds, and 100 publications/s to others, which stay."""
    count, others = bench.effort.connections(connections), bench.effort.connections(others)
    short = bench.effort.name == "short"
    within, quiet = (0.5, 0.5) if short else (10.0, 5.0)
    # One publication per second and client: the crowd itself is no load.
    with server(bench, channels=100) as umbel:
        umbel.ask("others 100")
        run = come_back(bench, umbel, count, within, channels=100, quiet=quiet, others=others)
    connect = run["returns"]["connect_ms"]["mean"]
    p95, base = run["others_ms"]["p95"], run["others_quiet_ms"]["p95"]
    noticed = f"others' p95 {p95:.1f} ms, undisturbed {base:.1f} ms"
    return Result(
        f"connect {connect:.1f} ms, others × {p95 / base:.2f}",
        "50 ms, 1.5 ×",
        max(connect / 50, p95 / base / 1.5),
        judge(bench, connect < 50 and p95 <= 1.5 * base),
        f"{noticed}; {note(run)}",
    )


def resume_blocked(bench: Bench, connections: int) -> Result:
    """The interpreter lock is held from before the cut on. A client publishes meanwhile."""
    count = bench.effort.connections(connections)
    short = bench.effort.name == "short"
    hold, within = (1.0, 0.2) if short else (3.0, 1.0)
    with server(bench) as umbel:
        run = come_back(bench, umbel, count, within, rate=0, hold=hold, publishers=1, publish_rate=100)
    blocks = run["server"]["after"]["blocks_ns"]
    need(len(blocks) == 2, "the interpreter was not blocked once, to the end")
    began, ended = blocks
    returns = run["returns"]
    need(began < returns["began_ns"], "the interpreter was blocked too late")
    took, left = returns["ended_ns"] - returns["began_ns"], ended - returns["began_ns"]
    return Result(
        f"all in {took / 1e9:.2f} s",
        f"{left / 1e9:.2f} s",
        took / left,
        judge(bench, took <= left),
        note(run),
    )


def server(bench: Bench, **options: Any) -> Server:
    return bench.umbel(data_bytes=128, tokens=True, **options)


def come_back(
    bench: Bench,
    umbel: Server,
    count: int,
    within: float,
    rate: float = 100,
    hold: float = 0,
    channels: int = 1,
    **options: Any,
) -> Answer:
    """Lets clients lose their connections and come back.

    Each has a token, about which the application is asked when it comes for the first time.
    """
    load = bench.load(
        "resume",
        umbel,
        connections=count,
        within=within,
        channels=channels,
        token="user-",
        wait=True,
        sample_every=10 if bench.effort.name == "short" else 100,
        seconds=within + 30,
        drain=5,
        **options,
    )
    try:
        load.wait_ready()
        asked = umbel.ask("stats")["asked"]
        umbel.ask(f"rate {rate}")
        load.go()
        if hold:
            time.sleep(max(0.0, bench.effort.warmup - 0.1))
            umbel.ask(f"block {hold}")
        load.wait_window()
        umbel.ask("others 0")
        after = umbel.ask("rate 0", timeout=hold + 30)
        run = load.result()
    finally:
        load.end()
    run["server"] = {"name": umbel.name, "after": after}
    bench.runs.append(run)
    check(run, after, count, channels)
    need(after["asked"] == asked, "the application was asked again who a client is")
    return run


def check(run: Answer, after: Answer, count: int, channels: int) -> None:
    """Each client has its session again, and each publication reached all of its readers once."""
    returns, total = run["returns"], run["total"]
    need(run["live"] == count, "connections were lost")
    need(returns["cut"] == returns["resumed"] == returns["recovered"] == count, "sessions were lost")
    need(total["checked_updates"] > 0, "no update was checked")
    need(total["lost"] == total["gaps"] == 0, "publications were lost")
    published = after["published"] + total["published"]
    # One channel after the other gets a publication, and one client after the other reads one.
    expected = sum(
        -(-(published - number) // channels) * -(-(count - number) // channels)
        for number in range(min(channels, count))
    )
    need(published > 0 and total["messages"] == expected, "not all publications reached all readers once")
    others = after["others_published"]
    if others:
        need(run["others_position_min"] == run["others_position_max"] == others, "others miss publications")


def note(run: Answer) -> str:
    returns = run["returns"]
    connect, caught_up = returns["connect_ms"], returns["caught_up_ms"]
    threads = run["server_threads_seconds"]
    shard, python = (threads.get(name, 0.0) for name in ("umbel-shard-0", "main"))
    late = returns["late_ms"]["p95"]
    failed = f", {sum(returns['failed'].values())} attempts failed" if returns["failed"] else ""
    return (
        f"caught up p50 {caught_up['p50']:.0f} ms, the last {caught_up['max']:.0f} ms; "
        f"connect p95 {connect['p95']:.0f} ms{failed}; "
        f"the load was {late:.1f} ms late (p95); "
        f"CPU of the shard {shard:.2f} s, of Python {python:.2f} s; {loads(run)}"
    )


def memory_away(bench: Bench, connections: int, client: bool) -> Result:
    """Crowds come without a channel, and lose their connections.

    What a connection takes is free again when it ends, and the next crowd uses it. So each crowd adds
    its sessions to what the process has; the first one also fills the pools.
    """
    count = bench.effort.connections(connections)
    limit = 4096 if client else 1024
    sizes = []
    with bench.umbel(data_bytes=128, tokens=client) as umbel:
        for _ in range(3):
            crowd = bench.load(
                "idle",
                umbel,
                connections=count,
                sessions=True,
                token="user-" if client else None,
                subscribe=False,
                seconds=0.1,
                warmup=0,
            ).result()
            need(crowd["live"] == count, "connections were lost")
            wait_gone(umbel)
            time.sleep(bench.effort.warmup)
            sizes.append(umbel.memory())
    each = (sizes[2] - sizes[1]) / count
    sizes_text = ", ".join(f"{size / 2**20:.1f}" for size in sizes)
    return Result(
        f"{each / 1024:.2f} KiB",
        f"{limit // 1024} KiB",
        each / limit,
        judge(bench, each <= limit),
        f"its memory with {count}, {2 * count} and {3 * count} away: {sizes_text} MiB",
    )


def wait_gone(umbel: Server) -> None:
    for _ in range(500):
        if umbel.ask("stats")["connections"] == 0:
            return
        time.sleep(0.02)
    need(False, "the server does not notice that connections have ended")

"""Rows about event streams, against WebSockets in the same run."""

from __future__ import annotations

from typing import Any

from costs import idle_memory
from harness import Answer, Bench
from measure import Result, floor_run, judge, loads, thousands, umbel_run


def _pair(
    bench: Bench, count: int, rate: float, server: dict[str, Any], **options: Any
) -> tuple[Answer, Answer, Answer]:
    """WebSockets, streams, WebSockets: drift of the machine shows as a difference between the outer ones."""
    before = umbel_run(bench, count, rate, server, **options)
    streams = umbel_run(bench, count, rate, server, streams=True, **options)
    after = umbel_run(bench, count, rate, server, **options)
    return before, streams, after


def _result(bench: Bench, what: str, runs: tuple[Answer, Answer, Answer], is_goal: bool) -> Result:
    before, streams, after = runs
    name = f"{what}_per_second"
    base = (before[name] + after[name]) / 2
    ratio = streams[name] / base
    note = (
        f"{streams['messages_per_frame']:.1f} publications and {streams['bytes_per_frame']:.0f} bytes "
        f"(WebSocket {before['bytes_per_frame']:.0f}); µs per event {streams['server_us_per_frame']:.2f} "
        f"(WebSocket {before['server_us_per_frame']:.2f} and {after['server_us_per_frame']:.2f}); "
        f"{loads(streams, before, after)}"
    )
    passed = judge(bench, ratio >= 0.9) if is_goal else None
    return Result(
        f"{thousands(streams[name])} {what}/s", f"{thousands(base)} (WebSocket)", ratio, passed, note
    )


def frames(bench: Bench, connections: int) -> Result:
    """One publication per pass, as fast as the floor program."""
    count = bench.effort.connections(connections)
    floor = floor_run(bench, count, 128)
    rate = floor["frames_per_second"] / count
    runs = _pair(bench, count, rate, {"data_bytes": 128, "tick": 0})
    return _result(bench, "frames", runs, True)


def messages(bench: Bench, connections: int) -> Result:
    """Forty publications per pass of the floor program: more than either can deliver one by one."""
    count = bench.effort.connections(connections)
    floor = floor_run(bench, count, 128)
    rate = 40 * floor["frames_per_second"] / count
    runs = _pair(bench, count, rate, {"data_bytes": 128})
    return _result(bench, "messages", runs, True)


def several(bench: Bench, connections: int) -> Result:
    """Eight channels on each connection: what is put together for each."""
    count = bench.effort.connections(connections)
    floor = floor_run(bench, count, 128)
    rate = 8 * floor["frames_per_second"] / count
    server = {"data_bytes": 128, "channels": 8}
    runs = _pair(bench, count, rate, server, channels=8, per_connection=8)
    return _result(bench, "messages", runs, False)


def memory(bench: Bench, connections: int) -> Result:
    count = bench.effort.connections(connections)
    before, after = idle_memory(bench, count, identity=True, streams=True)
    each, limit = (after - before) / count, 4096
    note = f"its memory {before / 2**20:.1f} MiB before, {after / 2**20:.1f} MiB with {count} streams"
    return Result(
        f"{each / 1024:.2f} KiB", f"{limit // 1024} KiB", each / limit, judge(bench, each <= limit), note
    )

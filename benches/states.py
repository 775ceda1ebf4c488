"""Rows about states: what a change costs, what a key takes, and changes by many clients."""

from __future__ import annotations

import functools
import itertools
import json
import subprocess
import sys
from statistics import mean, median
from typing import Any

from harness import MOST_DRAIN, SERVER_CORE, Answer, Bench
from measure import Result, judge, loads, need, thousands
from processes import HERE

# Of two runs that are compared.
PAIRS = 5


def state_set(bench: Bench) -> Result:
    """``app.state(c).set()`` of random keys against ``publish()``, in turns, in one process."""
    calls, keys = (400, 1000) if bench.effort.name == "short" else (20_000, 100_000)
    done = subprocess.run(
        [
            *("taskset", "-c", str(SERVER_CORE)),
            sys.executable,
            HERE / "servers/states.py",
            str(calls),
            str(keys),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    need(done.returncode == 0, f"states.py: {done.stderr[-300:]}")
    said = json.loads(done.stdout)
    # The name of the key is the bench's.
    few, many = (said[kind] - said["nothing"] for kind in ("few", "many"))
    publish, each = said["publish"], said["bytes_per_key"]
    ratio, growth = few / publish, many / few
    return Result(
        f"{few / 1000:.2f} µs",
        f"{publish / 1000:.2f} µs (publish)",
        ratio,
        judge(bench, ratio <= 1.5 and growth <= 2 and each <= 450),
        f"median of bursts, the caller's CPU, among 100 keys; among {keys:,} {many / 1000:.2f} µs, "
        f"{growth:.2f} × that; {each:.0f} bytes per key of 16 with 100 of data",
    )


def state_sets(bench: Bench, connections: int) -> Result:
    """``state_set`` from all readers, against ``publish`` with the same keys in a channel of latest values.

    The rate is half of the highest at which the latter delivers all that is published. Beyond that, what is
    delivered differs from run to run by a third; below it, what counts is the server's CPU. There are many
    short runs in turn, and each is compared with the one before and the one after it.
    """
    short = bench.effort.name == "short"
    count = bench.effort.connections(connections)
    once = functools.partial(changes, bench, count)
    rate, brief = 500.0, {} if short else {"warmup": 1, "seconds": 3}
    while not short and rate < 64_000:
        probe = once(2 * rate, "latest", **brief)
        if probe["messages_per_second"] < 0.95 * 2 * rate * count:
            rate /= 2
            break
        rate *= 2
    runs = [once(rate, "latest", **brief)]
    for _ in range(1 if short else PAIRS):
        runs += [once(rate, mode, **brief) for mode in ("state", "latest")]
    delivered = [run["messages_per_second"] for run in runs]
    ratio = median(against_neighbours(delivered))
    costs = against_neighbours(
        [run["server_cpu_percent"] / each for run, each in zip(runs, delivered, strict=True)]
    )
    state, latest = (median(those) for those in (delivered[1::2], delivered[::2]))
    return Result(
        f"{thousands(state)} updates/s",
        f"{thousands(latest)} (latest)",
        ratio,
        judge(bench, ratio >= 0.9 and median(costs) <= 1 / 0.9),
        f"at {rate:.0f} changes/s of {count} keys; CPU for an update × {median(costs):.2f} "
        f"({', '.join(f'{it:.2f}' for it in sorted(costs))}); "
        f"{runs[1]['messages_per_frame']:.0f} updates per frame; {loads(*runs[1::2])}",
    )


def against_neighbours(figures: list[float]) -> list[float]:
    """Every second figure, divided by the mean of those before and after it."""
    return [
        each / mean(pair) for each, pair in zip(figures[1::2], itertools.pairwise(figures[::2]), strict=True)
    ]


# A change of a client's own key, as a template of the load.
CHANGE = '{"type":"TYPE","channel":"bench","key":"key-{n}","data":{"t":{time},"pad":"{pad}"},"id":{seq}}'


def changes(bench: Bench, count: int, rate: float, mode: str, **options: Any) -> Answer:
    """All clients read a channel, and change one key each in turn."""
    with bench.umbel(data_bytes=128, mode=mode) as umbel:
        run = bench.load(
            "fanout",
            umbel,
            connections=count,
            publish_rate=rate,
            data_bytes=200,  # the whole message: 128 of data
            publication=CHANGE.replace("TYPE", "state_set" if mode == "state" else "publish"),
            drain=MOST_DRAIN,
            sample_every=10 if bench.effort.name == "short" else 100,
            **options,
        ).result()
    bench.runs.append(run)
    total = run["total"]
    need(run["live"] == count, "connections were lost")
    need(total["checked_updates"] > 0, "no update was checked")
    need(total["published"] == total["published_answers"], "changes were not answered")
    need(run["position_min"] == run["position_max"] == total["published"], "not all have the newest")
    return run

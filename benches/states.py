"""Rows about states: what a change costs, what a key takes, and changes by many clients."""

from __future__ import annotations

import functools
import itertools
import json
import subprocess
import sys
from statistics import mean, median
from typing import Any

from harness import HERE, MOST_DRAIN, SERVER_CORE, Answer, Bench
from measure import Result, judge, loads, need, thousands

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

    The rate is the first at which the latter does not deliver all that is published. What is delivered then
    differs from run to run by a third, so there are many short ones in turn. Each is compared with the one
    before and the one after it.
    """
    short = bench.effort.name == "short"
    count = bench.effort.connections(connections)
    once = functools.partial(changes, bench, count)
    rate, brief = 1000.0, {} if short else {"warmup": 1, "seconds": 3}
    for _ in range(0 if short else 6):
        probe = once(rate, "latest", **brief)
        if probe["messages_per_second"] < 0.95 * rate * count:
            break
        rate *= 2
    runs = [once(rate, "latest", **brief)]
    for _ in range(1 if short else PAIRS):
        runs += [once(rate, mode, **brief) for mode in ("state", "latest")]
    figures = [run["messages_per_second"] for run in runs]
    latest, state = figures[::2], figures[1::2]
    ratios = [each / mean(pair) for each, pair in zip(state, itertools.pairwise(latest), strict=True)]
    ratio = median(ratios)
    return Result(
        f"{thousands(median(state))} updates/s",
        f"{thousands(median(latest))} (latest)",
        ratio,
        judge(bench, ratio >= 0.9),
        f"at {rate:.0f} changes/s of {count} keys; {', '.join(f'{it:.2f}' for it in sorted(ratios))}; "
        f"{loads(*runs[1::2])}",
    )


def changes(bench: Bench, count: int, rate: float, mode: str, **options: Any) -> Answer:
    """All clients read a channel, and change one key each in turn."""
    with bench.umbel(data_bytes=128, mode=mode) as umbel:
        run = bench.load(
            "fanout",
            umbel,
            connections=count,
            publish_rate=rate,
            publish_type="state_set" if mode == "state" else "publish",
            publishers=count,
            keys=count,
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

"""A row about states: what a change costs, among few keys and among many, and what a key takes."""

from __future__ import annotations

import json
import subprocess
import sys

from harness import HERE, SERVER_CORE, Bench
from measure import Result, judge, need


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

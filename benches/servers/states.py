"""What a change of a state costs, and what a key takes: prints it as JSON.

    python states.py CALLS KEYS

CPU time of the calling thread, in bursts like those of ``publish-cost``; each burst is of one kind, in turns.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable
from statistics import median

from umbel import Umbel

FEW = 100
BURST = 200
DATA = {"text": "x" * 89}  # 100 bytes of JSON

app = Umbel()
app.channel("plain", open=True)
app.channel("{name}", open=True, mode="state", max_keys=1 << 20, state_bytes=1 << 30)


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


async def measure(calls: int, many: int) -> dict[str, float]:
    async with app.serve(port=0, shards=1, max_log_bytes=4 << 30, max_state_bytes=2 << 30):
        few_keys, many_keys = app.state("few"), app.state("many")
        for number in range(FEW):
            few_keys.set(f"{number:016}", DATA)
        before = resident()
        for number in range(many):
            many_keys.set(f"{number:016}", DATA)
            if number % 1000 == 0:
                await asyncio.sleep(0)
        await asyncio.sleep(1)
        bytes_per_key = (resident() - before) / many
        kinds: dict[str, Callable[[], object]] = {
            "publish": lambda: app.publish("plain", DATA),
            "few": lambda: few_keys.set(f"{random.randrange(FEW):016}", DATA),
            "many": lambda: many_keys.set(f"{random.randrange(many):016}", DATA),
            "nothing": lambda: f"{random.randrange(many):016}",
        }
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(max(1, calls // BURST)):
            for kind, act in kinds.items():
                began = time.thread_time_ns()
                for _ in range(BURST):
                    act()
                times[kind].append((time.thread_time_ns() - began) / BURST)
                await asyncio.sleep(0.01)
        return {kind: median(those) for kind, those in times.items()} | {"bytes_per_key": bytes_per_key}


print(json.dumps(asyncio.run(measure(*map(int, sys.argv[1:])))))

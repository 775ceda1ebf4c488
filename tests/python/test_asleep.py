"""A reader that sleeps while its channel goes on: what it has not read is bounded, and nothing is lost
without a word.

``ASLEEP_SECONDS=60`` is at the speed of a minute; without it, ten seconds' worth come at once.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from umbel.client import connect

SECONDS: Final = int(os.environ.get("ASLEEP_SECONDS", "10"))
PAUSE: Final = 1.0 if "ASLEEP_SECONDS" in os.environ else 0.0
EACH: Final = 1000
SERVER: Final = Path(__file__).parents[2] / "clients" / "js" / "test" / "served.py"


@asynccontextmanager
async def served() -> AsyncIterator[str]:
    """A server that is another process, so that its memory does not count."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, SERVER, "0", "{}", stderr=asyncio.subprocess.PIPE
    )
    assert server.stderr is not None
    try:
        line = await asyncio.wait_for(server.stderr.readline(), 20)
        yield line.decode().split()[-1]
    finally:
        server.terminate()
        await server.communicate()


def held() -> int:
    """Bytes that are in use."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def test_a_reader_asleep_holds_little_and_gets_what_there_still_is() -> None:
    tracemalloc.start()
    try:
        async with served() as url, connect(url) as umbel:
            updates = umbel.subscribe("burst")
            await updates.ready()
            before = held()
            for _ in range(SECONDS):
                await umbel.request("burst", {"channel": "burst", "count": EACH, "pad": 1024})
                await asyncio.sleep(PAUSE)
            more = (held() - before) / 2**20
            assert more < 16, f"{more:.1f} MiB"

            top = SECONDS * EACH
            at = read = 0
            async for update in updates:
                if gap := update.get("gap"):
                    assert (gap["from"], gap["reason"]) == (at, "trimmed")
                    at = gap["to"]
                else:
                    assert (update["offset"], update["data"]["n"]) == (at + 1, at % EACH)
                    at = update["offset"]
                    read += 1
                if at == top:
                    break
            assert read >= min(top, 5000), "the history has more"
            print(f"{more:.1f} MiB more; {read} read, {top - read} missed")
    finally:
        tracemalloc.stop()

"""A worker: does the jobs that are published in the channel ``jobs``, and publishes what comes of them.

It goes on where it was: after a lost connection, because the client does so, and after a new start, because
it stores its position. A worker that is killed after a job, and before it has stored the position, does it
again.

Start ``python examples/fanout.py``, then ``python examples/worker.py ws://127.0.0.1:8000``, and see the
results with ``umbel tail ws://127.0.0.1:8000 results``.
"""

import argparse
import asyncio
import contextlib
import json
import logging
from pathlib import Path

from umbel import Position
from umbel.client import RequestFailed, connect


async def work(url: str, place: Path) -> None:
    async with connect(url) as umbel:
        jobs = umbel.subscribe("jobs", stored(place))
        async for job in jobs:
            if "gap" in job:
                logging.warning("jobs were missed: %s", job["gap"]["reason"])
                continue
            try:
                await umbel.publish("results", {"job": job["data"], "letters": len(str(job["data"]))})
            except RequestFailed as error:
                logging.warning("%s: %s", job["data"], error)
            store(place, jobs.position)


def stored(place: Path) -> Position | None:
    """Where the worker was when it ended."""
    return Position(*json.loads(place.read_text())) if place.exists() else None


def store(place: Path, position: Position | None) -> None:
    if position:
        new = place.with_suffix(".new")  # so that there is always a whole one
        new.write_text(json.dumps([position.epoch, position.offset]))
        new.replace(place)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--position", type=Path, default=Path("position.json"), help="where it is stored")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work(options.url, options.position))

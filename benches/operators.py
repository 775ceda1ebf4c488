"""The row about operators: what it costs that somebody looks at the dashboard and scrapes the metrics."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from harness import Bench, Server
from measure import Result, judge, need

# Bytes of a snapshot, whatever there is.
LARGEST = 16 * 1024


def looked_at(bench: Bench, connections: int) -> Result:
    """Windows without and with a reader of the stream and a scrape a second, in turn, on a server at rest."""
    short = bench.effort.name == "short"
    count = bench.effort.connections(connections)
    windows, seconds = (1, 1.2) if short else (3, 15.0)
    # Heartbeats of clients that came together go out together, and would fall into some windows only.
    with bench.umbel(data_bytes=128, dashboard=True, heartbeat=600) as umbel:
        load = bench.load("idle", umbel, connections=count, deflate=True, wait=True, seconds=0.1)
        try:
            load.wait_ready()
            url = umbel.ask("stats")["admin_url"]
            time.sleep(bench.effort.warmup)
            without, looking = 0.0, 0.0
            for _ in range(windows):
                without += used(umbel, seconds)
                with operator(url, count):
                    # Its begin is no part of it.
                    time.sleep(bench.effort.warmup)
                    looking += used(umbel, seconds)
            load.go()
            run = load.result()
        finally:
            load.end()
    need(run["live"] == count, "connections were lost")
    without, looking = (cpu / windows / seconds * 100 for cpu in (without, looking))
    more = looking - without
    note = f"{looking:.2f} % while somebody looks, {without:.2f} % otherwise"
    return Result(f"{more:.2f} %", "1 %", more, judge(bench, more <= 1), note)


def used(server: Server, seconds: float) -> float:
    """Seconds of processor time that a server takes in a window."""
    before = server.ask("stats")["cpu_seconds"]
    time.sleep(seconds)
    after: float = server.ask("stats")["cpu_seconds"]
    return after - before


@contextmanager
def operator(url: str, connections: int) -> Iterator[None]:
    """Somebody who looks."""
    over, wrong = threading.Event(), []

    def watch() -> None:
        with urllib.request.urlopen(f"{url}/stats", timeout=30) as stream:
            while not over.is_set():
                line = stream.readline()
                if line != b"\n" and (
                    len(line) > LARGEST + 7 or b'"connections":%d' % connections not in line
                ):
                    wrong.append(line[:100])

    def scrape() -> None:
        while not over.wait(1):
            with urllib.request.urlopen(f"{url}/metrics", timeout=30) as response:
                response.read()

    threads = [threading.Thread(target=work) for work in (watch, scrape)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    need(not wrong, f"this is no snapshot: {wrong[:1]}")

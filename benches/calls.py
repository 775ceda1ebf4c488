"""Publications that come over HTTP."""

from __future__ import annotations

from costs import compared, quantiles
from harness import Bench, Server
from measure import Answer, Result, judge, loads, need

PATH = "/api/v1/publish"


def publish(bench: Bench) -> Result:
    """50 connections that are kept, each with one call at a time, and the same to FastAPI on uvicorn."""
    with bench.umbel(data_bytes=128, publish_path=PATH) as umbel:
        run = calls(bench, umbel)
    with bench.answering("fastapi") as server:
        peer = calls(bench, server)
    rate = run["answers_per_second"]
    passed = judge(bench, rate >= 20_000 and rate >= 5 * peer["answers_per_second"])
    costs = f"CPU per call {cost(run)}, fastapi {cost(peer)}"
    note = f"{quantiles(run)}, fastapi {quantiles(peer)}; {costs}; {loads(run, peer)}"
    return compared(run, peer, "fastapi", passed, note)


def calls(bench: Bench, server: Server) -> Answer:
    """Runs one load."""
    run = bench.calls(server, connections=50, data_bytes=128, path=PATH)
    need(run["answers"] > 0, "no answers in the window")
    return run


def cost(run: Answer) -> str:
    """What one call costs the server."""
    return f"{sum(run['server_threads_seconds'].values()) / run['answers'] * 1e6:.1f} µs"

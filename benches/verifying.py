"""Rows about tokens: many clients that arrive with new ones, and what verifying costs."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from umbel import JWT

from harness import LOAD_CORE, Answer, Bench
from measure import Result, judge, need, thousands
from processes import HERE, BenchError


@contextmanager
def signed(bench: Bench, algorithm: str, count: int) -> Iterator[Path]:
    """A directory with a key and so many different tokens."""
    with tempfile.TemporaryDirectory() as name:
        peer(bench, "sign", algorithm, name, str(count))
        yield Path(name)


def peer(bench: Bench, *words: str) -> Answer:
    """What PyJWT says, on the core of the load."""
    if not bench.peers_python.exists():
        raise BenchError("peers are not installed: python benches/run.py --setup")
    command = ["taskset", "-c", str(LOAD_CORE), str(bench.peers_python)]
    done = subprocess.run(
        [*command, str(HERE / "servers/tokens_peer.py"), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    need(done.returncode == 0, f"PyJWT: {done.stderr[-300:]}")
    answer: Answer = json.loads(done.stdout)
    return answer


def arrive(bench: Bench, algorithm: str, connections: int, is_goal: bool) -> Result:
    """Clients with different tokens arrive evenly within a second, while the interpreter is blocked."""
    count = bench.effort.connections(connections)
    with (
        signed(bench, algorithm, count) as place,
        bench.umbel(data_bytes=128, jwt=algorithm, jwt_key=place / "key") as umbel,
    ):
        umbel.write(f"block {BLOCKED}")  # the answer comes when it is over
        time.sleep(0.2)
        began = time.monotonic_ns()
        run = bench.load(
            "idle",
            umbel,
            connections=count,
            concurrency=count,
            ramp_up_delay=1.0 / count,
            subscribe=False,
            tokens=(place / "tokens").read_text().split(),
            seconds=0.1,
            warmup=0,
        ).result()
        ended = time.monotonic_ns()
        umbel.out.next(BLOCKED + 30)
        umbel.ask("stats", BLOCKED + 30)  # waits for the interpreter
        blocks = umbel.ask("stats")["blocks_ns"]
    need(run["live"] == count, "connections were lost")
    need(len(blocks) == 2 and blocks[0] < began, "the interpreter was not blocked in time")
    is_blocked = ended < blocks[1]
    connect, p95 = run["connect_ms"], run["connect_ms"]["p95"]
    blocked = "Python blocked all the time" if is_blocked else "Python not blocked to the end"
    note = (
        f"p50 {connect['p50']:.1f} ms, p99 {connect['p99']:.1f} ms, "
        f"all open after {run['open_seconds']:.2f} s; {blocked}"
    )
    passed = judge(bench, p95 < 2000 and is_blocked) if is_goal else None
    return Result(f"p95 {p95:.1f} ms", "2,000 ms", p95 / 2000, passed, note)


BLOCKED = 4
"""Seconds for which the interpreter is blocked: longer than they take to arrive."""


def verify(bench: Bench, algorithm: str) -> Result:
    """Different tokens, one after the other, and then the same again, which are known."""
    count = 50 if bench.effort.name == "short" else 2000
    with signed(bench, algorithm, count) as place:
        auth = JWT(key=(place / "key").read_bytes(), algorithms=[algorithm], issuer="https://id.example")
        tokens = (place / "tokens").read_text().split()
        new, known = (rate(auth, tokens) for _ in range(2))
        other = peer(bench, "verify", algorithm, str(place))["per_second"]
    note = f"{1e6 / new:.1f} µs each, PyJWT {1e6 / other:.1f}; one that is known {1e6 / known:.1f}"
    return Result(f"{thousands(new)}/s", f"{thousands(other)}/s (PyJWT)", new / other, None, note)


def rate(auth: JWT, tokens: list[str]) -> float:
    began = time.perf_counter()
    for token in tokens:
        auth.verify(token)
    return len(tokens) / (time.perf_counter() - began)

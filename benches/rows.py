"""The rows of the table of goals. `README.md` says the method in words."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import attacks
import calls
import clients
import costs
import delivery
import event_streams
import operators
import presence
import sessions
import states
import verifying
from harness import Bench
from measure import Result


@dataclass(frozen=True)
class Row:
    name: str
    what: str
    goal: str
    run: Callable[[Bench], Result]


def _rows() -> list[Row]:
    part = functools.partial
    sizes = [(count, data) for count in (1000, 10_000) for data in (128, 1024, 8192)]
    every = [
        Row(
            f"frames-{count}-{data}",
            f"frames/s to {count:,}, {data} B",
            "≥ 0.95 × floor",
            part(delivery.frames, connections=count, data_bytes=data),
        )
        for count, data in sizes
    ]
    tight = {"p50": 1.1, "p95": 1.1, "p99": 1.1}
    every += [
        Row(
            "messages-10000",
            "messages/s to 10,000, 128 B",
            "≥ 25 × floor's frames/s",
            part(delivery.messages_to_floor, connections=10_000),
        ),
        Row(
            "messages-1000-socketify",
            "messages/s to 1,000, against socketify",
            "≥ 3 ×",
            part(delivery.messages_to_socketify, connections=1000),
        ),
        Row(
            "load-limit",
            "frames/s that the load takes in and checks, 32 in each send",
            "≥ 1,000,000/s",
            part(delivery.load_limit, connections=1000),
        ),
        Row(
            "latency-10000-10",
            "latency p50 / p95 / p99, 10,000 × 10/s",
            "≤ 1.1 × floor",
            part(delivery.latency, connections=10_000, rate=10, limits=tight),
        ),
        Row(
            "latency-1000-10",
            "latency p50 / p95 / p99, 1,000 × 10/s",
            "p99 < 1.2 × floor",
            part(delivery.latency, connections=1000, rate=10, limits={"p99": 1.2}),
        ),
        Row(
            "saturation-10000",
            "p95 under saturation, 10,000",
            "≤ 1.1 × one pass",
            part(delivery.saturation, connections=10_000),
        ),
        Row(
            "overload-2x",
            "publisher at 2 × the deliverable",
            "≥ 0.9 × peak, p95 < 2 passes",
            part(delivery.overload, connections=10_000, factor=2),
        ),
        Row(
            "overload-4x",
            "publisher at 4 × the deliverable",
            "≥ 0.9 × peak, p95 < 2 passes",
            part(delivery.overload, connections=10_000, factor=4),
        ),
        *(
            Row(
                f"cpu-1000-{rate}",
                f"server CPU, 1,000 × {rate}/s",
                "≤ 1.1 × floor",
                part(costs.cpu, connections=1000, rate=rate),
            )
            for rate in (10, 100, 1000)
        ),
        Row("idle-10000", "idle CPU, 10,000", "< 0.5 %", part(costs.idle, connections=10_000)),
        Row(
            "dashboard-10000",
            "idle CPU, 10,000, above the same without a reader of the dashboard and a scrape a second",
            "≤ 1 %",
            part(operators.looked_at, connections=10_000),
        ),
        Row(
            "deflate-10000",
            "deflate against plain, 1 KiB JSON, 10,000",
            "≥ 1.0 × plain",
            part(delivery.deflate, connections=10_000),
        ),
        Row(
            "random-channels",
            "10 of 100 channels each, deflate, 10,000",
            "≥ 0.8 × one channel",
            part(delivery.random_channels, connections=10_000),
        ),
        Row(
            "publish-cost",
            "one publish(), 0 and 10,000 subscribers",
            "< 1.5 µs, the same",
            part(costs.publish_cost, connections=10_000),
        ),
        Row(
            "state-set",
            "one app.state().set() among 100 and 100,000 keys; a key",
            "≤ 1.5 × publish(), ≤ 2 × that, ≤ 450 B",
            states.state_set,
        ),
        Row(
            "state-sets-1000",
            "updates/s to 1,000 that change keys by state_set, against publish to latest; CPU",
            "≥ 0.9 × latest",
            part(states.state_sets, connections=1000),
        ),
        Row(
            "presence-enter",
            "10,000 enter one room within 10 s: p95 of 1,000 others, bytes for each",
            "≤ 1.5 × undisturbed, ≤ 300 KiB",
            part(presence.enter, connections=10_000, others=1000),
        ),
        Row(
            "presence-rest",
            "10,000 are in rooms: CPU at rest and memory, above the same connections",
            "< 0.5 %, ≤ 1 KiB each",
            part(presence.rest, connections=10_000),
        ),
        Row(
            "memory-bare",
            "memory per idle connection, bare",
            "≤ 2 KiB",
            part(costs.memory, connections=10_000, identity=False),
        ),
        Row(
            "memory-identity",
            "memory with identity and subscription",
            "≤ 4 KiB",
            part(costs.memory, connections=10_000, identity=True),
        ),
        *(
            Row(
                f"stream-{what}-{count}",
                f"{what}/s of event streams, {count:,}",
                "≥ 0.9 × WebSocket",
                part(measure, connections=count),
            )
            for what, measure in (("frames", event_streams.frames), ("messages", event_streams.messages))
            for count in (1000, 10_000)
        ),
        Row(
            "stream-channels-1000",
            "messages/s of event streams of 8 channels, 1,000",
            "reported, against WebSocket",
            part(event_streams.several, connections=1000),
        ),
        Row(
            "stream-memory",
            "memory per idle event stream with identity",
            "≤ 4 KiB",
            part(event_streams.memory, connections=10_000),
        ),
        Row("connects", "connects/s, one core", "≥ 20,000/s", costs.connects),
        Row(
            "reconnect-10000",
            "connect time, 10,000 at once",
            "mean < 50 ms",
            part(costs.reconnect, connections=10_000),
        ),
        Row(
            "resume-10000",
            "10,000 reset at once, back within 1 s, 100/s go on: caught up, mean connect",
            "p95 < 2 s, < 250 ms",
            part(sessions.resume, connections=10_000),
        ),
        Row(
            "resume-spread",
            "the same within 10 s: mean connect, p95 of 1,000 others",
            "< 50 ms, ≤ 1.5 × undisturbed",
            part(sessions.resume_slowly, connections=10_000, others=1000),
        ),
        Row(
            "resume-blocked",
            "10,000 back within 1 s while the interpreter is blocked for 3 s",
            "all in that time",
            part(sessions.resume_blocked, connections=10_000),
        ),
        *(
            Row(
                f"memory-away{suffix}",
                f"memory per session that is away, {what}",
                f"≤ {limit} KiB",
                part(sessions.memory_away, connections=10_000, client=client),
            )
            for suffix, what, limit, client in (
                ("", "without Python", 1, False),
                ("-client", "with a Client", 4, True),
            )
        ),
        *(
            Row(
                f"tokens-{algorithm}",
                f"10,000 arrive within 1 s with different tokens, {algorithm}, interpreter blocked",
                "p95 < 2 s" if is_goal else "reported",
                part(verifying.arrive, algorithm=algorithm, connections=10_000, is_goal=is_goal),
            )
            for algorithm, is_goal in (("HS256", True), ("RS256", True), ("ES256", False), ("EdDSA", False))
        ),
        *(
            Row(
                f"verify-{algorithm}",
                f"verifications/s, {algorithm}, from Python",
                "reported, against PyJWT",
                part(verifying.verify, algorithm=algorithm),
            )
            for algorithm in ("HS256", "RS256", "PS256", "ES256", "ES384", "EdDSA")
        ),
        Row(
            "blocked",
            "interpreter blocked for 3 s, 1,000",
            "p95 ≤ 1.1 ×, pongs and accepts go on",
            part(costs.blocked, connections=1000),
        ),
        Row(
            "requests-def",
            "answers/s from a def handler, 50 × 32 in flight",
            "≥ 150,000/s",
            part(costs.requests, in_flight=32, goal=150_000),
        ),
        Row(
            "requests-one",
            "the same, 50 × 1 in flight",
            "≥ 100,000/s",
            part(costs.requests, in_flight=1, goal=100_000),
        ),
        Row(
            "requests",
            "answers/s from an async handler that does not wait",
            "≥ 0.95 × def",
            costs.async_requests,
        ),
        *(
            Row(
                f"requests-{name}{suffix}",
                f"answers/s from a def handler, 50 × {in_flight} in flight, and from {name}",
                "reported",
                part(costs.requests_to, name=name, in_flight=in_flight),
            )
            for name in ("picows", "socketify", "fastapi")
            for suffix, in_flight in (("", 32), ("-one", 1))
        ),
        Row(
            "calls",
            "publications/s over HTTP, 50 connections that are kept",
            "≥ 20,000/s, ≥ 5 × FastAPI",
            calls.publish,
        ),
        Row(
            "curve-connections",
            "server µs per frame, 1,000 to 18,000 connections",
            "flat within 1.2 × of floor's",
            delivery.curve_connections,
        ),
        Row(
            "curve-channels",
            "server µs per delivery, 1 to 10,000 channels",
            "flat within 1.2 × of floor's",
            part(delivery.curve_channels, connections=10_000),
        ),
        Row(
            "burst-1000",
            "5,000 publications in one loop, twice, 1,000",
            "no gap, < 0.5 MiB afterwards",
            part(costs.burst, connections=1000, count=5000),
        ),
        Row(
            "never-reading",
            "100 never read, a minute at 1,000/s",
            "< 1 MiB, others' p95 ≤ 1.1 ×",
            part(costs.never_reading, connections=1000, slow=100),
        ),
        Row(
            "attack-work",
            "a bystander's p95 during attacks on the CPU",
            "≤ max(3 × undisturbed, 50 ms)",
            attacks.bystander,
        ),
        Row(
            "attack-memory",
            "growth during attacks on the memory",
            "≤ 32 MiB",
            attacks.memory,
        ),
        Row(
            "client-python-decode",
            "Python client, batches of 100 read by for, CPU per update",
            "≤ 1.5 × websockets + orjson.loads",
            clients.decode,
        ),
        Row(
            "client-js-decode",
            "JavaScript client in Node.js, batches of 100 handed to a callback",
            "≤ 1.5 × JSON.parse",
            clients.decode_js,
        ),
        Row(
            "client-python-recover",
            "Python client, from a cut to caught up, defaults, median and p95",
            "< 0.7 s, < 2 s",
            clients.recover,
        ),
        Row(
            "stream-first-bytes",
            "event stream through nginx with its defaults: from the request to the first event, median "
            "and p95",
            "p95 < 100 ms",
            clients.first_bytes,
        ),
        Row(
            "client-js-held-back",
            "JavaScript client on a stream in parts, behind nginx that holds responses back: from publish() "
            "to its echo, median and p95",
            "p95 < 1 s",
            clients.held_back,
        ),
    ]
    return every


ROWS = {row.name: row for row in _rows()}

"""What the clients cost, and how soon one is back."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from umbel import Umbel
from umbel.client import connect
from websockets.asyncio.client import connect as websocket

from harness import Bench
from measure import Result, judge, need
from processes import HERE

INTEROP = HERE.parent / "tests" / "interop"
sys.path.append(str(INTEROP))

from proxy import nginx  # noqa: E402

UPDATES = 100
"""Updates in a batch."""

FIRST: Any = "umbel.v1.first"


def decode(bench: Bench) -> Result:
    """CPU time per update: the client's batches read by `for`, against `websockets` and `orjson.loads`
    alone.
    """
    frames = 20 if bench.effort.name == "short" else 5000
    with batches(frames) as url:
        most = frames * UPDATES
        pairs = [(asyncio.run(bare(url, most)), asyncio.run(client(url, most))) for _ in range(5)]
    alone, ours = (min(those) / most * 1e9 for those in zip(*pairs, strict=True))
    ratio = ours / alone
    return Result(f"{ours:.0f} ns", f"{alone:.0f} ns", ratio, judge(bench, ratio <= 1.5), "per update")


def decode_js(bench: Bench) -> Result:
    """Time per update: batches handed to a callback by the JavaScript client, against `JSON.parse` alone."""
    count = 20 if bench.effort.name == "short" else 3000
    node = shutil.which("node")
    need(node is not None, "there is no Node.js")
    command = [str(node), HERE / "js_client.mjs", str(count), str(UPDATES)]
    took = orjson.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    ratio = took["client"] / took["alone"]
    figures = (f"{took['client']:.0f} ns", f"{took['alone']:.0f} ns")
    return Result(*figures, ratio, judge(bench, ratio <= 1.5), "per update")


@contextmanager
def batches(frames: int) -> Iterator[str]:
    command = [sys.executable, HERE / "servers" / "batches.py", str(frames), str(UPDATES)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield f"ws://127.0.0.1:{server.stdout.readline().strip()}/ws"
        server.stdin.close()


async def bare(url: str, most: int) -> float:
    async with websocket(url, subprotocols=[FIRST], compression=None, proxy=None) as connection:
        await connection.send("go")
        gc.collect()
        began = time.process_time()
        seen = 0
        while seen < most:
            for _ in orjson.loads(await connection.recv(decode=False))["updates"]:
                seen += 1
        return time.process_time() - began


async def client(url: str, most: int) -> float:
    async with connect(url, compression=None, proxy=None) as umbel:
        updates = umbel.subscribe("task:42")
        await updates.ready()
        gc.collect()
        began = time.process_time()
        seen = 0
        async for batch in updates.batches():
            for _ in batch:
                seen += 1
            if seen == most:
                break
        return time.process_time() - began


def recover(bench: Bench) -> Result:
    """Seconds from a cut until what was published meanwhile is there, with the defaults; the network is back
    at once.
    """
    groups, size = (1, 3) if bench.effort.name == "short" else (10, 20)
    times = sorted(time for _ in range(groups) for time in asyncio.run(cut_all(size)))
    median, p95 = statistics.median(times), times[int(0.95 * (len(times) - 1))]
    passed = judge(bench, median < 0.7 and p95 < 2)
    return Result(f"{median:.2f} / {p95:.2f} s", "", None, passed, f"of {len(times)} cuts")


def held_back(bench: Bench) -> Result:
    """From `publish()` of the JavaScript client to its own echo, behind nginx that forwards no WebSocket and
    holds responses back.
    """
    short = bench.effort.name == "short"
    if not shutil.which("nginx", path=f"/usr/sbin:{os.environ['PATH']}"):
        return Result("skipped", "", None, None, "there is no nginx")
    more = {"count": 5, "attemptTimeout": 500} if short else {"count": 500}
    found = asyncio.run(behind_nginx(**more, pause=50, blocked=True))
    times = sorted(found["latencies"])
    median, p95 = statistics.median(times) / 1000, times[int(0.95 * (len(times) - 1))] / 1000
    need(found["transport"] == "stream" and found["parts"][-1] > 1, "it was not in parts")
    need(found["offsets"] == list(range(1, len(times) + 1)), "not all arrived")
    note = f"of {len(times)}; let in after {found['connected'] / 1000:.1f} s"
    return Result(f"{median:.3f} / {p95:.3f} s", "", None, judge(bench, p95 < 1), note)


def first_bytes(bench: Bench) -> Result:
    """From the request for an event stream to its first event, through nginx with its defaults."""
    if not shutil.which("nginx", path=f"/usr/sbin:{os.environ['PATH']}"):
        return Result("skipped", "", None, None, "there is no nginx")
    times = sorted(asyncio.run(open_streams(5 if bench.effort.name == "short" else 500)))
    median, p95 = statistics.median(times) * 1000, times[int(0.95 * (len(times) - 1))] * 1000
    note = f"of {len(times)}, one after another"
    return Result(f"{median:.1f} / {p95:.1f} ms", "", None, judge(bench, p95 < 100), note)


async def open_streams(count: int) -> list[float]:
    logging.getLogger("umbel").setLevel(logging.WARNING)
    app, times = Umbel(), []
    app.channel("news", open=True)
    with tempfile.TemporaryDirectory() as place:
        async with app.serve(port=0) as server:
            with nginx(Path(place), server.url) as port:
                for _ in range(count):
                    began = time.monotonic()
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(b"GET /api/v1/stream/news HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                    await reader.readuntil(b"event: connected")
                    times.append(time.monotonic() - began)
                    writer.close()
    return times


async def behind_nginx(**options: object) -> dict[str, Any]:
    logging.getLogger("umbel").setLevel(logging.WARNING)
    app = Umbel()
    app.channel("echo", open=True, publish=True)
    node = shutil.which("node")
    need(node is not None, "there is no Node.js")
    holds = "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;"
    with tempfile.TemporaryDirectory() as place:
        async with app.serve(port=0) as server:
            with nginx(Path(place), server.url, holds) as port:
                command = [
                    str(node),
                    INTEROP / "fallback.mjs",
                    f"ws://127.0.0.1:{port}/ws",
                    orjson.dumps(options),
                ]
                run = subprocess.run
                done = await asyncio.to_thread(run, command, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = orjson.loads(done.stdout)
    return found


async def cut_all(count: int) -> list[float]:
    """Cut so many clients off, all at once."""
    logging.getLogger("umbel").setLevel(logging.WARNING)  # not where each of the servers listens
    app = Umbel()
    app.channel("task:{x}", open=True)
    # The server knows of a subscription before its client does, which has a position only then.
    ready, cut = asyncio.Barrier(count + 1), asyncio.Event()

    async def one(url: str) -> float:
        async with connect(url, proxy=None) as umbel:
            updates = umbel.subscribe("task:42")
            await updates.ready()
            await ready.wait()
            await cut.wait()
            began = time.monotonic()
            await anext(updates)
            return time.monotonic() - began

    async with app.serve(port=0) as server, Wires(int(server.url.rsplit(":", 1)[1])) as wires:
        tasks = [asyncio.create_task(one(wires.url)) for _ in range(count)]
        async with asyncio.timeout(60):
            await ready.wait()
            wires.cut()
            app.publish("task:42", 1)
            cut.set()
            return list(await asyncio.gather(*tasks))


class Wires:
    """Connections to a server that can be cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Wires:
        self._listener = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}/ws"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far, outer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, outer}
        await asyncio.gather(self._pump(reader, outer), self._pump(far, writer))
        self._writers -= {writer, outer}

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(4096):
                sink.write(data)
        sink.transport.abort()

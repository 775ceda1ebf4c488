"""The core beside Python: a blocked interpreter or loop, calls from everywhere, and the end of all."""

from __future__ import annotations

import concurrent.futures
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import PING, PONG, Canary, Peer, Subscriber
from looping import on_loops
from programs import PYTHON_PATH, interruptible
from serving import Server, running, served
from umbel import Umbel
from wire import wire


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(served()) as process:
        yield process


def established(server: Server) -> Peer:
    peer = Peer(server.address)
    peer.upgrade()
    peer.read_json("connection_established")
    return peer


@pytest.mark.parametrize("fault", ["keep_the_interpreter", "block_the_loop"])
def test_what_blocks_python_does_not_block_the_core(server: Server, fault: str) -> None:
    with (
        established(server) as culprit,
        established(server) as witness,
        established(server) as pinger,
        Canary(server.address) as canary,
    ):
        culprit.send_json({"type": fault, "seconds": 2})
        began = time.monotonic()
        time.sleep(0.1)
        witness.send_json({"type": "take_time", "id": 1})
        canary.latencies.clear()
        canary.wait_beats(20, 1.5)
        pinger.send_frame(PING, b"core?")
        assert pinger.read_frame().opcode == PONG
        with Subscriber(server.address, ["meanwhile"], name="newcomer") as newcomer:
            offset = newcomer.publish("meanwhile", "is delivered")
            newcomer.read_until("meanwhile", offset)
        assert not witness.readable(0.01), "Python was not blocked: nothing was tested"
        assert time.monotonic() - began < 2
        assert witness.read_json("take_time_result")["id"] == 1
        assert time.monotonic() - began > 1.5
        assert canary.quantile(0.5) < 0.1


@on_loops
async def test_publishing_from_threads_the_loop_and_a_signal_handler(app: Umbel) -> None:
    app.channel("all", open=True, history=100_000, history_bytes=1 << 26)
    count = 300
    numbers = iter(range(count))

    def publish_all(name: str) -> None:
        for number in range(count):
            app.publish("all", [name, number])

    def interrupt_main() -> None:
        for _ in range(count):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            handled.acquire(timeout=5)

    def on_signal(*_: object) -> None:
        app.publish("all", ["signal", next(numbers)])
        handled.release()

    handled = threading.Semaphore(0)
    before = signal.signal(signal.SIGUSR1, on_signal)
    try:
        async with app.serve(port=0) as server, wire(server) as client:
            await client.say("subscribe_updates", channel="all")
            await client.hear("subscription_established")
            threads = [threading.Thread(target=publish_all, args=(str(name),)) for name in range(4)]
            threads.append(threading.Thread(target=interrupt_main))
            for thread in threads:
                thread.start()
            publish_all("loop")
            seen: dict[str, list[int]] = {}
            for offset in range(1, 6 * count + 1):
                update = await client.hear("update")
                assert update["offset"] == offset
                name, number = update["data"]
                seen.setdefault(name, []).append(number)
            assert seen == {name: list(range(count)) for name in ("0", "1", "2", "3", "loop", "signal")}
            for thread in threads:
                thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


TRAFFIC = """
import asyncio, os, signal, sys, threading, time
from hostile import Subscriber
from umbel import Umbel

way, moment = sys.argv[1], float(sys.argv[2])
app = Umbel(port=0, drain=0.5)
app.channel("{name}", open=True, publish=True)
app.on("work")(lambda client, message: message.data)

def publish():
    while True:
        try:
            app.publish("a", "from a thread")
        except RuntimeError:
            time.sleep(0.001)

def visit(address):
    while True:
        try:
            with Subscriber(address, ["a"]) as client:
                for number in range(50):
                    client.send_json({"type": "work", "id": number, "data": "x"})
                    client.send_json({"type": "publish", "channel": "b", "data": number})
                    client.read_json()
        except Exception:
            time.sleep(0.01)

def begin(server):
    host, port = server.url.removeprefix("http://").split(":")
    for target, *arguments in ((publish,), (visit, (host, int(port))), (visit, (host, int(port)))):
        threading.Thread(target=target, args=arguments, daemon=True).start()

@app.on("exit")
def leave(client, message):
    sys.exit(5)

async def block():
    async with app.serve() as server:
        begin(server)
        await asyncio.sleep(moment)
        if way == "sys.exit":
            sys.exit(3)
        if way == "exception":
            raise LookupError("main failed")
        await asyncio.sleep(60)

async def abandon():
    server = app.serve()
    await server.__aenter__()
    begin(server)
    await asyncio.sleep(moment)

async def run():
    begin(app._server)
    await asyncio.sleep(moment)
    os.kill(os.getpid(), signal.SIGTERM if way == "SIGTERM" else signal.SIGINT)

if way in ("SIGINT", "SIGTERM"):
    app.background(run)
    app.run()
elif way == "loop closed":
    asyncio.run(abandon())
else:
    if way == "Ctrl-C":
        threading.Timer(moment, os.kill, (os.getpid(), signal.SIGINT)).start()
    asyncio.run(block())
"""

WAYS = {
    "SIGINT": 0,
    "SIGTERM": 0,
    "Ctrl-C": -signal.SIGINT,
    "sys.exit": 3,
    "exception": 1,
    "loop closed": 0,
}
"""Ways for a program to end, and the exit status of each."""


@pytest.mark.parametrize("way", WAYS)
def test_a_program_that_ends_during_traffic_ends_cleanly_at_any_moment(way: str) -> None:
    def end(moment: float) -> tuple[int, str]:
        search = f"{PYTHON_PATH}:{Path(__file__).parent}"
        done = subprocess.run(
            interruptible(sys.executable, "-c", TRAFFIC, way, str(moment)),
            capture_output=True,
            text=True,
            timeout=20,
            env={"PYTHONPATH": search, "PYTHONFAULTHANDLER": "1"},
            check=False,
        )
        return done.returncode, done.stderr

    moments = [random.uniform(0, 0.3) for _ in range(5)]
    with concurrent.futures.ThreadPoolExecutor(len(moments)) as pool:
        for moment, (status, said) in zip(moments, pool.map(end, moments), strict=True):
            assert status == WAYS[way], f"after {moment:.3f} s:\n{said}"
            assert "Fatal Python error" not in said
            assert "panicked" not in said

"""The end of a connection reaches whoever is concerned, whatever is paused."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hostile import CLOSE, PING, TEXT, Frame, Peer, frame
from looping import on_loops
from programs import started
from umbel import Client, ConnectionClosed, Message, Request, Server, Umbel, WebSocket
from websockets.asyncio.client import connect


def at(server: Server, path: str) -> str:
    return server.url.replace("http", "ws", 1) + path


def peer(server: Server, path: str) -> Peer:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    it = Peer((host, int(port)))
    it.upgrade(path)
    return it


async def nobody_is_left(server: Server, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while server.stats().connections:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("end", ["FIN", "RST"])
@on_loops
async def test_a_path_is_not_filled_by_clients_that_are_gone(app: Umbel, end: str) -> None:
    @app.websocket("/push")
    async def push(websocket: WebSocket) -> None:
        await asyncio.Event().wait()  # it sends now and then, and never receives

    async with app.serve(port=0, close_timeout=0.2) as server:
        for _ in range(3):
            client = await asyncio.to_thread(peer, server, "/push")
            client.send(b"".join(frame(TEXT, b"x") for _ in range(200)))
            await asyncio.sleep(0.1)
            if end == "RST":
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.socket.close()
        await nobody_is_left(server)
        async with asyncio.timeout(5):
            while any(
                "push" in str(task.get_coro()) or "_run" in str(task.get_coro())
                for task in asyncio.all_tasks()
            ):
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("pause", [0, 0.1])
@on_loops
async def test_a_ping_after_the_close_gets_no_pong(app: Umbel, pause: float) -> None:
    @app.websocket("/slow")
    async def slow(websocket: WebSocket) -> None:
        await asyncio.sleep(0.3)

    def converse(client: Peer) -> Frame:
        client.send(frame(CLOSE, struct.pack("!H", 1000)) + (b"" if pause else frame(PING, b"late")))
        time.sleep(pause)
        client.send(frame(PING, b"later"))
        return client.read_frame()

    async with app.serve(port=0) as server:
        with await asyncio.to_thread(peer, server, "/slow") as client:
            answer = await asyncio.to_thread(converse, client)
            assert answer.opcode == CLOSE, "RFC 6455 5.5.1: nothing counts after a close frame"


@on_loops
async def test_a_client_that_goes_while_it_is_being_let_in_gives_its_place_back(app: Umbel) -> None:
    @app.authenticate
    async def who(request: Request) -> str:
        await asyncio.sleep(8)
        return "somebody"

    async with app.serve(port=0, drain=0.1) as server:
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(
                b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            await asyncio.sleep(0.1)
            assert server.stats().connections == 1
        await nobody_is_left(server)


@on_loops
async def test_a_close_is_answered_although_the_function_waits_for_something_else(app: Umbel) -> None:
    @app.websocket("/feed")
    async def feed(websocket: WebSocket) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append(websocket.close_code)

    ends: list[int | None] = []
    async with app.serve(port=0, close_timeout=2) as server:
        async with connect(at(server, "/feed"), proxy=None, close_timeout=10) as client:
            await client.close(3000, "bye")
            assert client.close_code == 3000
            assert not ends, "a client would feel the close timeout"
        async with asyncio.timeout(5):
            while not ends:
                await asyncio.sleep(0.02)
    assert ends == [3000], "it is cancelled when its time is over"


@on_loops
async def test_messages_before_the_close_are_all_taken_first(app: Umbel) -> None:
    taken: list[Any] = []

    @app.websocket("/slow")
    async def slow(websocket: WebSocket) -> None:
        try:
            while True:
                taken.append(await websocket.receive())
                await asyncio.sleep(0.05)
        except ConnectionClosed as closed:
            taken.append(closed.code)

    async with app.serve(port=0) as server:
        async with connect(at(server, "/slow"), proxy=None) as client:
            for number in range(10):
                await client.send(str(number))
            await client.close(3001)
        await nobody_is_left(server)
    assert taken == [*map(str, range(10)), 3001]


FEED = """
import asyncio
from umbel import Umbel
app = Umbel(drain=20)
@app.websocket("/feed")
async def feed(websocket):
    await asyncio.Event().wait()
@app.on("work")
async def work(client, message):
    await asyncio.sleep(3)
"""


def test_a_push_feed_does_not_keep_the_process_from_ending(tmp_path: Path) -> None:
    async def leave(url: str) -> None:
        clients = [await connect(url.replace("http", "ws", 1) + "/feed", proxy=None) for _ in range(50)]
        program.process.send_signal(signal.SIGTERM)
        for client in clients:
            await client.wait_closed()

    (tmp_path / "feed.py").write_text(FEED)
    with started("-m", "umbel", "run", "feed:app", "--port", "0", cwd=tmp_path) as program:
        asyncio.run(leave(program.url))
        began = time.monotonic()
        assert program.end() == 0
        assert time.monotonic() - began < 10, "and not the 20 s that it may take"


STUBBORN = """
import asyncio, threading
from umbel import Umbel
app = Umbel(drain=0.2)
@app.websocket("/stubborn")
async def stubborn(websocket):
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass
@app.on("block", thread=True)
def block(client, message):
    client.send("it has begun")
    threading.Event().wait()
@app.stream("talk")
async def talk(run, message):
    yield "it talks"
    while True:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            pass
"""


def test_functions_that_never_end_do_not_keep_the_process(tmp_path: Path) -> None:
    async def visit(url: str) -> None:
        base = url.replace("http", "ws", 1)
        async with connect(base + "/stubborn", proxy=None), connect(base + "/ws", proxy=None) as client:
            await client.send('{"type": "block"}')
            while "it has begun" not in str(await client.recv()):
                pass
            await client.send('{"type": "talk"}')
            while "it talks" not in str(await client.recv()):
                pass
            program.process.send_signal(signal.SIGTERM)
            await client.wait_closed()

    (tmp_path / "stubborn.py").write_text(STUBBORN)
    with started("-m", "umbel", "run", "stubborn:app", "--port", "0", cwd=tmp_path) as program:
        asyncio.run(visit(program.url))
        assert program.end() == 0
        left = sorted(re.findall("ERROR (.*) did not end in time .* it is left behind", program.output))
        assert left == ["function of websocket path '/stubborn'", "handler of 'block'", "stream 'talk'"]


def test_the_log_says_what_a_stop_waits_for(tmp_path: Path) -> None:
    async def work(url: str) -> None:
        async with connect(url.replace("http", "ws", 1) + "/ws", proxy=None) as client:
            await client.send('{"type": "work"}')
            await client.send('{"type": "heartbeat"}')
            await client.recv()
            await client.recv()
            program.process.send_signal(signal.SIGTERM)

    (tmp_path / "feed.py").write_text(FEED)
    with started("-m", "umbel", "run", "feed:app", "--port", "0", cwd=tmp_path) as program:
        asyncio.run(work(program.url))
        assert program.end() == 0
        assert "the stop waits for handler of 'work' (1)" in program.output


@on_loops
async def test_a_refused_handshake_leaves_a_line(app: Umbel, caplog: pytest.LogCaptureFixture) -> None:
    async with app.serve(port=0, shards=1) as server:
        for _ in range(3):
            with pytest.raises(Exception, match="403"):
                async with connect(at(server, "/ws"), origin="https://evil.example", proxy=None):
                    pass
        async with asyncio.timeout(5):
            while "requests refused: 1" not in caplog.text:
                await asyncio.sleep(0.02)
        assert caplog.text.count("requests refused") == 1


@on_loops
async def test_a_client_that_closes_and_ends_its_side_gets_the_rest(app: Umbel) -> None:
    ends: list[object] = []

    @app.websocket("/slow")
    async def slow(websocket: WebSocket) -> None:
        async for message in websocket:
            await asyncio.sleep(0.15)  # longer together than the time between two looks for an end
            await websocket.send(message)
        websocket.close(3000)
        await websocket.wait_closed()
        ends.append((websocket.close_code, websocket.close_reason))

    def visit(client: Peer) -> list[object]:
        client.send(frame(TEXT, b"x") * 10 + frame(CLOSE, struct.pack(">H", 3000) + b"bye"))
        client.socket.shutdown(socket.SHUT_WR)
        heard = [client.read_frame() for _ in range(11)]
        client.socket.close()
        return [received.close_code or received.payload for received in heard]

    async with app.serve(port=0) as server:
        client = await asyncio.to_thread(peer, server, "/slow")
        assert await asyncio.to_thread(visit, client) == [b"x"] * 10 + [3000]
    assert ends == [(3000, "bye")]


@on_loops
async def test_the_code_of_a_client_that_closed_counts_when_its_connection_breaks(app: Umbel) -> None:
    ends: list[object] = []

    @app.websocket("/feed")
    async def feed(websocket: WebSocket) -> None:
        await websocket.wait_closed()
        ends.append((websocket.close_code, websocket.close_reason))

    async with app.serve(port=0, close_timeout=1) as server:
        client = await asyncio.to_thread(peer, server, "/feed")
        client.send(frame(TEXT, b"x") + frame(CLOSE, struct.pack(">H", 3000) + b"bye"))
        await asyncio.sleep(0.1)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.socket.close()
        await nobody_is_left(server)
        async with asyncio.timeout(5):
            while not ends:
                await asyncio.sleep(0.02)
    assert ends == [(3000, "bye")]


@on_loops
async def test_the_last_function_of_a_client_may_clean_up_at_the_stop(
    app: Umbel, caplog: pytest.LogCaptureFixture
) -> None:
    begun, ends = 0, []

    @app.on("wait")
    async def wait(client: Client, message: Message) -> None:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()

    @app.on_disconnect
    async def left(client: Client, code: int, reason: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            ends.append(code)

    async with app.serve(port=0, max_running=1, drain=0.1) as server:
        async with connect(at(server, "/ws"), proxy=None) as client:
            for _ in range(2):  # the second one waits, and on_disconnect waits for it
                await client.send('{"type": "wait"}')
            while not begun:
                await asyncio.sleep(0.02)
        await nobody_is_left(server)
    assert (begun, ends) == (1, [1000])
    assert "left behind" not in caplog.text

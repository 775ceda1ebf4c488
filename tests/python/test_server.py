"""A server with the real core, on sockets."""

import asyncio
import contextlib
import errno
import gc
import logging
import os
import re
import socket
import threading
import time
import urllib.request
import weakref

import orjson
import pytest
from fake_core import FakeCore
from looping import on_loops, settle, virtual
from umbel import ConfigurationError, Position, Receipt, Umbel, _core
from umbel._serving import lifetime
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed as PeerClosed
from wire import wire


@on_loops
async def test_a_publication_reaches_its_subscribers(app):
    app.channel("news:{topic}", open=True)
    async with app.serve(port=0) as server, wire(server) as one, wire(server) as two:
        for client in (one, two):
            await client.say("subscribe_updates", channel="news:tea", id=1)
            assert (await client.hear("subscription_established"))["channel"] == "news:tea"
        receipt = app.publish("news:tea", {"n": 1})
        position = await receipt
        assert isinstance(receipt, Receipt) and isinstance(position, Position)
        assert position == receipt.position == await receipt
        assert position.offset == 1
        with pytest.raises(RuntimeError, match="await"):
            receipt.wait()
        assert await asyncio.to_thread(receipt.wait, timeout=5) == position
        for client in (one, two):
            update = await client.hear("update")
            assert (update["offset"], update["data"]) == (1, {"n": 1})


@on_loops
async def test_the_whole_way_of_a_client(app):
    order = []

    @app.authenticate
    async def who(request):
        return request.query.get("user")

    @app.on_connect
    async def greet(client):
        client.send({"hello": client.identity.subject})

    @app.on_disconnect
    def left(client, code, reason):
        order.append((client.identity.subject, code))
        gone.set()

    @app.channel("doc:{name}", publish=lambda client, name, data: data != "bad")
    async def doc(client, name):
        return name == client.identity.subject

    @app.on("double")
    async def double(client, message):
        return message.data * 2

    @app.on("fail")
    async def fail(client, message):
        raise LookupError("secret")

    @app.stream("ask")
    async def answer(run, message):
        yield "so "
        yield "it is"

    gone = asyncio.Event()
    async with app.serve(port=0) as server:
        async with wire(server, "/ws?user=ann") as ann:
            assert (await ann.hear("update"))["data"] == {"hello": "ann"}
            await ann.say("double", id="d", data=21)
            assert (await ann.hear("double_result"))["data"] == 42
            await ann.say("fail", id="f")
            error = await ann.hear("error")
            assert (error["code"], error["id"]) == ("internal", "f")
            await ann.say("nothing", id="n")
            assert (await ann.hear("error"))["code"] == "unknown_type"
            await ann.say("subscribe_updates", channel="doc:bob", id=1)
            assert (await ann.hear("error"))["code"] == "not_allowed"
            await ann.say("subscribe_updates", channel="doc:ann", id=2)
            assert (await ann.hear("subscription_established"))["id"] == 2
            await ann.say("publish", channel="doc:ann", data="bad", id=3)
            assert (await ann.hear("error"))["id"] == 3
            await ann.say("publish", channel="doc:ann", data="good", id=4)
            assert (await ann.hear("update"))["data"] == "good"
            await ann.say("ask", id="q", data={"conversationId": "k"})
            assert (await ann.hear("subscription_established"))["id"] == "q"
            text = ""
            while (data := (await ann.hear("update"))["data"])["type"] != "ai_response_end":
                text += data.get("chunk", "")
            assert text == "so it is"
            assert data["status"] == "complete"
        await gone.wait()
        assert order == [("ann", 1000)]


@on_loops
async def test_a_refused_client_is_told_the_reason_once(app):
    app.authenticate(lambda request: None)
    async with (
        app.serve(port=0) as server,
        connect(server.url.replace("http", "ws") + "/ws", proxy=None) as connection,
    ):
        error = orjson.loads(await connection.recv())
        assert (error["type"], error["code"]) == ("error", "unauthenticated")
        with pytest.raises(PeerClosed) as caught:
            await connection.recv()
        assert caught.value.rcvd.code == 4401


@on_loops
async def test_all_channels_together_keep_no_more_than_the_server_may(app):
    app.channel("room:{x}", open=True)
    async with app.serve(port=0, max_log_bytes=1 << 20) as server:
        for number in range(100):
            app.publish(f"room:{number}", "x" * 100_000)
        stats = server.stats()
        assert stats.published == 100
        assert 90 <= stats.trimmed < 100, "the newest ones are kept"
        assert stats.channels < 20


async def test_one_channel_can_not_keep_more_than_all_together(app):
    app.channel("room:{x}", open=True, history_bytes=(1 << 20) + 1)
    with pytest.raises(ValueError, match="max_log_bytes must be at least the largest history_bytes"):
        async with app.serve(port=0, max_log_bytes=1 << 20):
            pass


@on_loops
async def test_a_websocket_path_echoes_under_back_pressure(app):
    @app.websocket("/echo/{path:path}")
    async def echo(websocket, path):
        await websocket.send(path)
        async for message in websocket:
            await websocket.send(message)

    async with app.serve(port=0, max_message=1 << 22) as server:
        url = server.url.replace("http", "ws") + "/echo/a/b"
        async with connect(url, proxy=None, max_size=None) as connection:
            assert await connection.recv() == "a/b"
            messages = ["ä" * 100_000, b"\0" * 3_000_000, "", b"", *(str(number) for number in range(500))]

            async def feed():
                for message in messages:
                    await connection.send(message)

            feeding = asyncio.ensure_future(feed())
            assert [await connection.recv() for _ in messages] == messages
            await feeding


@on_loops
async def test_a_websocket_sender_waits_for_a_reader_that_does_not_read(app):
    sockets = []

    @app.websocket("/flood")
    async def flood(websocket):
        sockets.append(websocket)
        for number in range(1000):
            await websocket.send(number.to_bytes(65_536))

    async with app.serve(port=0, send_buffer=65_536, deflate=False) as server:
        url = server.url.replace("http", "ws") + "/flood"
        async with connect(url, proxy=None, max_queue=1, max_size=None) as connection:
            while not sockets or sockets[0]._writable is None:
                await asyncio.sleep(0)
            for number in range(1000):
                assert int.from_bytes(await connection.recv()) == number


@on_loops
async def test_a_page_is_served(app, tmp_path):
    file = tmp_path / "style.css"
    file.write_text("body {}")
    app.page("/", "<p>hello")
    app.page("/style.css", file)
    async with app.serve(port=0) as server:

        def get(path):
            with urllib.request.urlopen(server.url + path) as response:
                return response.headers["content-type"], response.read()

        assert await asyncio.to_thread(get, "/") == ("text/html; charset=utf-8", b"<p>hello")
        assert await asyncio.to_thread(get, "/style.css") == ("text/css; charset=utf-8", b"body {}")


@on_loops
async def test_publishing_from_many_threads_keeps_the_order_of_each(app):
    app.channel("all", open=True, history=100_000, history_bytes=1 << 26)
    async with app.serve(port=0) as server, wire(server) as client:
        await client.say("subscribe_updates", channel="all")
        await client.hear("subscription_established")

        def work(name):
            for number in range(500):
                app.publish("all", [name, number])

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        seen = {name: [] for name in range(8)}
        for offset in range(1, 4001):
            update = await client.hear("update")
            assert update["offset"] == offset
            name, number = update["data"]
            seen[name].append(number)
        assert all(numbers == list(range(500)) for numbers in seen.values())
        for thread in threads:
            thread.join()


@on_loops
async def test_a_graceful_stop_delivers_what_waits_and_tells_to_come_back(app):
    app.channel("a", open=True)
    server = app.serve(port=0)
    async with server:
        url = server.url.replace("http", "ws") + "/ws"
        async with connect(url, proxy=None) as connection:
            await connection.send('{"type":"subscribe_updates","channel":"a"}')
            while b"subscription_established" not in (await connection.recv(decode=False)):
                pass
            app.publish("a", "last words")
            server.stop(within=5)
            heard = []
            with pytest.raises(PeerClosed) as caught:
                while True:
                    heard.append(orjson.loads(await connection.recv()))
            assert caught.value.rcvd.code == 1012
            assert [message["type"] for message in heard].count("reconnect") == 1
            assert "last words" in str(heard)
        await server.wait_closed()
    assert server.stats().published == 1


async def test_a_server_says_where_it_listens(app):
    server = app.serve(port=0)
    assert repr(server) == "<Server not started>"
    async with server:
        assert repr(server) == f"<Server {server.url}>"
    assert repr(server) == "<Server stopped>"


@on_loops
async def test_an_application_may_be_served_again_after_it_has_stopped(app):
    app.channel("a", open=True)
    for _ in range(3):
        async with app.serve(port=0) as server:
            assert app.publish("a", 1).position.offset == 1
            assert server.stats().connections == 0
        with pytest.raises(RuntimeError, match="not being served"):
            app.publish("a", 1)
        server.stop()
        await server.wait_closed()


@on_loops
async def test_two_servers_of_one_application_are_refused_and_two_applications_not(app):
    other = Umbel()
    async with app.serve(port=0) as server, other.serve(port=0):
        with pytest.raises(RuntimeError, match="being served; stop that server"):
            async with app.serve(port=0):
                pass
        with pytest.raises(RuntimeError, match="used once"):
            await server.__aenter__()
        with pytest.raises(RuntimeError, match="being served"):
            app.on("x")
    with pytest.raises(RuntimeError, match="used once"):
        await server.__aenter__()


@on_loops
async def test_a_failed_start_leaves_the_application_free(app):
    async with Umbel().serve(port=0) as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(OSError):
            async with app.serve(port=port):
                pass
    app.channel("a:{x}")
    with pytest.raises(ConfigurationError, match="open=True"):
        async with app.serve(port=0):
            pass
    with pytest.raises(ValueError):
        async with Umbel().serve(port=70_000):
            pass


def test_a_server_that_was_not_started(app):
    server = app.serve(port=0)
    server.stop()
    assert server.addresses == ()
    with pytest.raises(RuntimeError):
        server.url  # noqa: B018
    with pytest.raises(RuntimeError):
        server.stats()
    with pytest.raises(RuntimeError):
        asyncio.run(server.wait_closed())


@on_loops
async def test_unix_sockets(app, tmp_path):
    path = tmp_path / "umbel.sock"
    async with app.serve(unix_socket=str(path)) as server:
        assert server.addresses == (f"unix:{path}",)
        with pytest.raises(OSError, match="in use"):
            async with Umbel().serve(unix_socket=str(path)):
                pass
    assert not path.exists()


async def test_a_unix_socket_that_a_killed_process_has_left_is_taken_over(app, tmp_path):
    path = str(tmp_path / "umbel.sock")
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)
    async with app.serve(unix_socket=path):
        _, writer = await asyncio.open_unix_connection(path)
        writer.close()


async def test_a_file_in_the_place_of_a_unix_socket_is_left_alone(app, tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text("precious")
    with pytest.raises(OSError, match=f"{path}.*not a socket.*another path"):
        async with app.serve(unix_socket=str(path)):
            pass
    assert path.read_text() == "precious"


async def test_a_unix_socket_whose_owner_accepts_nothing_is_in_use_and_not_waited_for(app, tmp_path):
    path = str(tmp_path / "umbel.sock")
    with contextlib.ExitStack() as sockets:
        owner = sockets.enter_context(socket.socket(socket.AF_UNIX))
        owner.bind(path)
        owner.listen(0)
        full = False
        while not full:
            waiting = sockets.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            full = waiting.connect_ex(path) == errno.EAGAIN
        with pytest.raises(OSError, match="in use"):
            async with app.serve(unix_socket=path):
                pass


def listener(server):
    """The listening socket of a server of this process."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            candidate = socket.socket(fileno=os.dup(int(name)))
            if candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and server.url.endswith(
                f":{candidate.getsockname()[1]}"
            ):
                return candidate
            candidate.close()
    raise AssertionError(f"nobody listens at {server.url}")


async def test_a_listener_that_fails_is_tried_again_without_haste(app, caplog):
    async with app.serve(port=0) as server:
        with listener(server) as broken:
            broken.shutdown(socket.SHUT_RDWR)
            cpu = time.process_time()
            await asyncio.sleep(1)
            assert time.process_time() - cpu < 0.3
            assert caplog.text.count("can't accept connections") == 1
            broken.listen()
            reader, writer = await asyncio.open_connection(*broken.getsockname())
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            async with asyncio.timeout(3):
                assert (await reader.read()).endswith(b"ok\n")
            writer.close()


@on_loops
async def test_a_close_that_may_not_be_sent_raises_and_the_client_stays(app):
    @app.on("leave")
    def leave(client, message):
        for code in (1005, 1006, 2999, 5000):
            with pytest.raises(ValueError, match=f"{code} can't be sent as a close code"):
                client.close(code)
        for reason in ("x" * 200, "ä" * 62):
            with pytest.raises(ValueError, match=f"{len(reason.encode())} bytes"):
                client.close(1000, reason)
        return "still here"

    async with app.serve(port=0) as server, wire(server) as client:
        await client.say("leave", id=1)
        assert (await client.hear("leave_result"))["data"] == "still here"


@on_loops
async def test_a_line_of_the_log_is_one_line_and_holds_no_secret(app, caplog):
    app.authenticate(lambda request: request.query["name"])

    @app.on("fail")
    async def fail(client, message):
        raise LookupError("of the application")

    @app.on("hang")
    async def hang(client, message):
        await asyncio.sleep(60)

    @app.websocket("/{name}")
    async def talk(websocket, name):
        logging.getLogger("application").error("%r %r", websocket, websocket.request.headers)

    name = "eve%0D%0A%1B[31m2026-11-24%20ERROR%20forged" + "%F0%9F%98%80" * 200
    headers = {"Authorization": "Bearer t0ken", "Cookie": "session=t0ken"}
    async with app.serve(port=0, handler_timeout=0.1) as server:
        path = f"/ws?name={name}&token=t0ken"
        async with wire(server, path, additional_headers=headers) as client:
            await client.say("fail", id=1, data="t0ken\r\n")
            await client.hear("error")
            await client.say("hang", id=2, data="t0ken\r\n")
            await client.hear("error")
        mirrored = "%E2%80%AE" * 50 + "x" * 1000
        url = server.url.replace("http", "ws") + f"/{mirrored}?name=x&token=t0ken"
        async with connect(url, proxy=None, additional_headers=headers) as connection:
            await connection.wait_closed()
    lines = [record.getMessage() for record in caplog.records if record.name in ("umbel", "application")]
    assert {"fail", "hang", "WebSocket"} <= set(re.findall("fail|hang|WebSocket", " ".join(lines)))
    for line in lines:
        assert line.isprintable()
        assert len(line.encode()) <= 1024
        assert "t0ken" not in line


@on_loops
async def test_cancelling_the_block_stops_the_server(app):
    started = asyncio.Event()

    async def serve():
        async with app.serve(port=0):
            started.set()
            await asyncio.sleep(1000)

    task = asyncio.ensure_future(serve())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert app._server is None


@on_loops
async def test_a_server_that_has_stopped_is_not_kept(app):
    async with app.serve(port=0) as server:
        gone = weakref.ref(server)
        assert server in lifetime.alive
    assert server not in lifetime.alive
    del server
    await settle()
    gc.collect()
    assert gone() is None


@virtual
async def test_a_core_that_does_not_stop_is_given_up(app, monkeypatch, caplog):
    monkeypatch.setattr("umbel._serving.server.Core", FakeCore)
    async with app.serve(port=0) as server:
        FakeCore.made.stops = False
        server.stop(within=3)
        await server.wait_closed()
        assert asyncio.get_running_loop().time() >= 3
    assert "did not stop in time" in caplog.text


@virtual
async def test_a_second_stop_hastens_the_first(app, monkeypatch):
    monkeypatch.setattr("umbel._serving.server.Core", FakeCore)

    @app.on("slow")
    async def slow(client, message):
        await asyncio.sleep(1000)

    async with app.serve(port=0, handler_timeout=None) as server:
        core = FakeCore.made
        core.stops = False
        core.open()
        core.message(1, "slow")
        await settle()
        server.stop(within=100)
        server.stop(within=0)
        await server.wait_closed()
        assert core.named("stop") == [(100,), (0,)]
        assert asyncio.get_running_loop().time() < 10


@pytest.mark.parametrize("core_first", [True, False])
@pytest.mark.parametrize(("first", "second", "least", "most"), [(0.5, 100, 0.5, 2), (100, 0, 1, 3)])
def test_the_shortest_time_of_several_stops_counts(
    app, monkeypatch, caplog, core_first, first, second, least, most
):
    monkeypatch.setattr("umbel._serving.server.Core", FakeCore)

    @app.on("slow")
    async def slow(client, message):
        await asyncio.sleep(1000)

    @virtual
    async def scenario():
        async with app.serve(port=0, handler_timeout=None) as server:
            core, loop = FakeCore.made, asyncio.get_running_loop()
            core.stops = core_first
            core.open()
            for _ in range(5):
                core.message(1, "slow")
            await settle()
            begin = loop.time()
            server.stop(within=first)
            await asyncio.sleep(0.1 if first < 1 else 1)
            server.stop(within=second)
            if not core_first:
                core.put(_core.STOPPED)
            await server.wait_closed()
            assert least <= loop.time() - begin <= most
        assert [record for record in caplog.records if record.levelno > logging.WARNING] == []
        assert caplog.text.count("functions cancelled: 5,") == 1

    scenario()


@virtual
async def test_being_cancelled_while_stopping_gives_up_patience(app, monkeypatch):
    monkeypatch.setattr("umbel._serving.server.Core", FakeCore)

    async def serve():
        async with app.serve(port=0):
            FakeCore.made.stops = False

    task = asyncio.ensure_future(serve())
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert FakeCore.made.named("stop")[-1] == (0,)
    assert app._server is None


@virtual
async def test_keyboard_interrupt_in_a_function_stops_the_server(app, monkeypatch, caplog):
    monkeypatch.setattr("umbel._serving.server.Core", FakeCore)

    @app.on("x")
    async def handle(client, message):
        raise KeyboardInterrupt

    async with app.serve(port=0) as server:
        FakeCore.made.open()
        FakeCore.made.message(1, "x", id=1)
        await server.wait_closed()
    assert FakeCore.made.replies[0][1]["code"] == "internal"


def test_publishing_needs_a_server(app):
    with pytest.raises(RuntimeError, match="not being served"):
        app.publish("a", 1)


@on_loops
async def test_a_path_of_the_application_is_not_the_one_of_the_protocol(app):
    async def own(websocket):
        pass

    app.page("/page", "x")
    app.websocket("/own")(own)
    for path in ("/page", "/own"):
        with pytest.raises(ConfigurationError, match=f"path '{path}' belongs to the websocket_path"):
            async with app.serve(port=0, websocket_path=path):
                pass
    async with app.serve(port=0, websocket_path="/other"):
        pass


@on_loops
async def test_the_end_of_another_connection_is_a_failure_and_that_of_ones_own_is_none(app, caplog):
    sockets = []

    @app.websocket("/all")
    async def everybody(websocket):
        sockets.append(websocket)
        async for message in websocket:
            for other in sockets:
                await other.send(message)

    @app.websocket("/both")
    async def both(websocket):
        async def read():
            while True:
                await websocket.receive()

        async def write():
            while True:
                await websocket.send("x")
                await asyncio.sleep(0.001)

        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            group.create_task(write())

    async with app.serve(port=0) as server:
        url = server.url.replace("http", "ws", 1)
        async with connect(url + "/both", proxy=None) as connection:
            await connection.recv()
        assert caplog.records == []
        async with connect(url + "/all", proxy=None) as innocent:
            async with connect(url + "/all", proxy=None) as gone:
                await gone.send("hello")
                await gone.recv()
                await innocent.recv()
            await sockets[1].wait_closed()
            await innocent.send("still there")
            await innocent.wait_closed()
            assert innocent.close_code == 1011
    assert "websocket '/all' failed" in caplog.text
    assert "'/both'" not in caplog.text


@on_loops
async def test_the_last_function_of_a_client_is_cancelled_too_when_the_time_to_stop_is_over(app):
    ends = []

    @app.on("work")
    async def work(client, message):
        try:
            await asyncio.sleep(30)
        finally:
            ends.append("work")

    @app.on_disconnect
    async def left(client, code, reason):
        try:
            await asyncio.sleep(30)
        finally:
            ends.append("left")

    async with app.serve(port=0, drain=0.2, max_running=1) as server:
        async with wire(server) as client:
            await client.say("work")
            await client.say("work")  # it waits, and so does the end of the client
            async with asyncio.timeout(5):
                while server.stats().received < 2:
                    await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
    await settle()
    assert ends == ["work", "left"]

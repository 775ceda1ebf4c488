"""The dashboard: its page, the stream of figures, who may see them, and what they say."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from conftest import Bench
from hostile import TEXT, Peer
from looping import virtual
from serving import ROOT, wait_until
from test_metrics import address_of, ask, ended
from umbel import Identity, Request, Settings, Umbel
from umbel._serving.server import Server

pytestmark = pytest.mark.timeout(60)

FOLDER = ROOT / "python" / "umbel" / "_serving" / "dashboard"
EVIL = '\u202e</script><img onerror="alert(1)">'


class Stream:
    """What the page reads."""

    def __init__(self, server: Server, **headers: str) -> None:
        connection = http.client.HTTPConnection(*address_of(url_of(server)), timeout=30)
        connection.request("GET", "/stats", headers=headers)
        self.response = connection.getresponse()
        self.status = self.response.status

    def event(self) -> Any:
        """The next snapshot. None may be larger than 16 KiB."""
        line, end = self.response.readline(), self.response.readline()
        assert line.startswith(b"data: {")
        assert end == b"\n"
        assert len(line) <= len(b"data: \n") + 16 * 1024
        return orjson.loads(line[6:])

    def until(self, condition: Callable[[Any], object], act: Callable[[], object] = lambda: None) -> Any:
        """The first snapshot of which something is true. Before each one, something is done."""
        act()
        while not condition(event := self.event()):
            act()
        return event

    def close(self) -> None:
        self.response.close()


@contextlib.contextmanager
def looking(server: Server, **headers: str) -> Iterator[Stream]:
    stream = Stream(server, **headers)
    try:
        assert stream.status == 200
        yield stream
    finally:
        stream.close()


def url_of(server: Server) -> str:
    assert server.admin_url is not None
    return server.admin_url.replace("0.0.0.0", "127.0.0.1")


@contextlib.contextmanager
def client(server: Server, *messages: Any, receive_buffer: int | None = None) -> Iterator[Peer]:
    """A client that has said something, and reads nothing more than the greeting."""
    with Peer(address_of(server.url), receive_buffer=receive_buffer) as peer:
        peer.upgrade("/ws")
        peer.read_json("connection_established")
        for message in messages:
            say(peer, message)
        yield peer


def say(peer: Peer, message: Any) -> None:
    peer.send_frame(TEXT, orjson.dumps(message))


def listening(channel: str) -> dict[str, str]:
    return {"type": "subscribe_updates", "channel": channel}


SECURITY = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}


def test_the_page_is_for_operators_only(serving: Any) -> None:
    server = serving(admin="127.0.0.1:0", dashboard=True)
    page = (FOLDER / "index.html").read_text()
    for path in ("/dashboard", "/stats", "/metrics", "/nothing"):
        _, headers, _ = ask(url_of(server), path, "HEAD")
        assert {name: headers[name] for name in SECURITY} == SECURITY
    status, headers, text = ask(url_of(server), "/dashboard")
    assert (status, headers["content-type"], text) == (200, "text/html; charset=utf-8", page)
    for file in FOLDER.rglob("*"):
        status, headers, _ = ask(url_of(server), f"/dashboard/{file.relative_to(FOLDER).as_posix()}")
        kinds = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
        assert status == (200 if file.suffix in kinds else 404)
        if status == 200:
            assert headers["content-type"] == f"{kinds[file.suffix]}; charset=utf-8"
    assert ask(url_of(server), "/dashboard", "POST")[0] == 405
    assert ask(url_of(server), "/stats", "POST")[0] == 405
    for path in ("/dashboard", "/stats", "/operators:/dashboard"):
        assert ask(server.url, path)[0] == 404
    assert ask(url_of(server), "/dashboard", headers={"Host": "evil.example"})[0] == 403
    other = {"Sec-Fetch-Site": "cross-site"}
    assert ask(url_of(server), "/stats", headers=other)[0] == 403
    assert ask(url_of(server), "/dashboard", headers=other)[0] == 200, "somebody follows a link"


def test_without_the_setting_there_is_none(serving: Any) -> None:
    server = serving(admin="127.0.0.1:0")
    for path in ("/dashboard", "/dashboard/page.js", "/stats"):
        assert ask(url_of(server), path)[0] == 404
    with pytest.raises(ValueError, match="dashboard is served by the listener for operators: set admin"):
        Settings(dashboard=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_figures_need_the_token_and_the_page_does_not(serving: Any, host: str) -> None:
    server = serving(admin=f"{host}:0", admin_token="a-long-token", dashboard=True)
    assert ask(url_of(server), "/dashboard")[0] == 200
    for wrong in ({}, {"Authorization": "Bearer a-wrong-token"}):
        for path in ("/stats", "/metrics"):
            status, headers, _ = ask(url_of(server), path, headers=wrong)
            assert (status, headers["www-authenticate"]) == (401, "Bearer")
    # Those who have the right one are let in, however many have not.
    with contextlib.ExitStack() as stack:
        for _ in range(80):
            other = stack.enter_context(socket.create_connection(address_of(url_of(server)), timeout=30))
            other.sendall(b"GET /stats HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n\r\n")
        with looking(server, Authorization="Bearer a-long-token") as stream:
            assert stream.event()["connections"] == 0


def test_a_snapshot_says_what_has_happened_and_nothing_of_itself(app: Umbel, serving: Any) -> None:
    app.channel("news:{topic}", open=True)
    server = serving(admin="127.0.0.1:0", dashboard=True)
    with looking(server) as stream:
        first, second = stream.event(), stream.event()
        counted = (
            "connections",
            "accepted",
            "bytesSent",
            "bytesReceived",
            "received",
            "publications",
            "logs",
        )
        assert [second[name] for name in counted] == [0] * len(counted)
        assert 0 < first["uptimeSeconds"] < second["uptimeSeconds"]
        # Both are rounded to milliseconds.
        assert -2 < second["time"] - second["started"] - second["uptimeSeconds"] * 1000 < 1000
        assert second["process"]["cpuSeconds"] > 0
        with client(server, listening("news:a")) as peer:
            stream.until(lambda it: it["subscriptions"] == 1)
            app.publish("news:a", {"number": 1})
            app.publish("news:b", {"number": 2})
            assert peer.read_json("batched_updates")["count"] == 1
            busy = stream.until(lambda it: it["delivered"] == 1 and len(it["channels"]) == 2)
    assert (busy["connections"], busy["publications"], busy["logs"]) == (1, 2, 2)
    assert busy["lateness"]["bounds"][0] == 0.256
    assert len(busy["lateness"]["counts"]) == len(busy["lateness"]["bounds"]) + 1 == 16
    assert sum(busy["lateness"]["counts"]) == 1
    rows = {row["name"]: (row["readers"], row["published"]) for row in busy["channels"]}
    assert rows == {"news:a": (1, 1), "news:b": (0, 1)}
    assert (busy["slow"], busy["gaps"]["overrun"], busy["draining"]) == ([], 0, False)
    (shard,) = busy["shards"]
    assert (shard["connections"], shard["delivered"], busy["shardsLeftOut"]) == (1, 1, 0)
    assert shard["busy"] > 0


def test_while_python_is_blocked_it_goes_on_and_says_so(app: Umbel, serving: Any) -> None:
    blocked, released = threading.Event(), threading.Event()

    @app.on("block")
    def block(client: Any, message: Any) -> None:
        blocked.set()
        released.wait(30)

    server = serving(admin="127.0.0.1:0", dashboard=True)
    with looking(server) as stream:
        stream.until(lambda it: it["python"]["silent"] < 400)
        with client(server, {"type": "block"}):
            assert blocked.wait(30)
            try:
                # Nothing waits for Python, and it shows all the same.
                found = stream.until(lambda it: it["python"]["silent"] >= 500)
                assert found["connections"] == 1
            finally:
                released.set()
            stream.until(lambda it: it["python"]["silent"] < 500)


def test_slow_functions_are_found_while_somebody_looks(app: Umbel, serving: Any) -> None:
    @app.on("slow")
    def slow(client: Any, message: Any) -> None:
        time.sleep(0.01)

    @app.on("fast")
    def fast(client: Any, message: Any) -> None:
        pass

    server = serving(admin="127.0.0.1:0", dashboard=True)
    caller = server._dispatcher._caller
    with client(server) as peer:
        with looking(server) as stream:

            def call() -> None:
                for kind in ("fast", "slow"):
                    say(peer, {"type": kind})

            found = stream.until(lambda it: len(it["python"]["slowest"]) == 2, call)
            first, second = found["python"]["slowest"]
            assert [first["name"], second["name"]] == ["handler of 'slow'", "handler of 'fast'"]
            assert first["calls"] >= 1
            assert first["seconds"] >= 0.009 * first["calls"]
            assert first["max"] >= 9
        wait_until(lambda: caller.times is None, "nobody looks any more")


@virtual
async def test_only_what_somebody_looks_at_is_timed(app: Umbel, bench: Callable[..., Bench]) -> None:
    @app.on("x")
    def handler(client: Any, message: Any) -> None:
        pass

    under = bench()
    under.core.open()
    under.core.message(1, "x")
    await under.run()
    under.dispatcher.note_functions()
    assert under.core.functions is None
    under.core.watched = True
    under.dispatcher.note_functions()
    for _ in range(3):
        under.core.message(1, "x")
    await under.run()
    under.dispatcher.note_functions()
    assert under.core.functions is not None
    runs, [(name, calls, seconds, longest)] = under.core.functions
    assert (runs, name, calls) == (0, "handler of 'x'", 3)
    assert 0 < longest <= seconds
    under.core.watched = False
    under.dispatcher.note_functions()
    under.dispatcher.note_functions()
    assert under.core.functions is None


def test_names_that_strangers_choose_stay_small_and_on_their_line(app: Umbel, serving: Any) -> None:
    """Clients read nothing. Their subjects have 64 KiB, and their channels the longest names there can be."""
    app.channel("evil:{name}", open=True)

    @app.authenticate
    def who(request: Request) -> Identity:
        return Identity(EVIL + "\n" + "\U0001f600" * 16_384)

    server = serving(admin="127.0.0.1:0", dashboard=True, send_buffer=4096, write_timeout=60, deflate=False)
    names = [f"evil:{number}{EVIL}".ljust(93, "\U0001f600") for number in range(25)]
    assert all(len(name.encode()) <= 255 for name in names)
    with looking(server) as stream, contextlib.ExitStack() as peers:
        for name in names:
            peers.enter_context(client(server, listening(name), receive_buffer=4096))
        stream.until(lambda it: it["subscriptions"] == 25)
        for name in names:
            for number in range(100):
                app.publish(name, {"number": number, "pad": "x" * 8000})
        found = stream.until(lambda it: len(it["slow"]) >= 20 and len(it["channels"]) >= 20)
    for row in found["slow"]:
        assert row["lag"] > 0
        assert row["age"] >= 0
        assert row["stalled"] >= 0
        assert row["channels"] == 1
        assert row["buffered"] > 0
        assert row["subject"].startswith("\\u{202e}</")
        assert row["channel"].startswith("evil:")
        assert len(row["client"]) == 16
        assert all(len(row[name]) <= 129 for name in ("subject", "channel"))
    assert [row["lag"] for row in found["slow"]] == sorted(
        (row["lag"] for row in found["slow"]), reverse=True
    )
    assert all("\\u{202e}" in row["name"] for row in found["channels"] if len(row["name"]) > 20)
    text = orjson.dumps(found).decode()
    assert not any(letter in text for letter in "\u202e\n")


def test_scrapers_and_streams_do_not_keep_each_other_out(serving: Any) -> None:
    server = serving(admin="127.0.0.1:0", dashboard=True)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(looking(server)) for _ in range(16)]
        assert ask(url_of(server), "/stats")[0] == 503
        hanging = [
            stack.enter_context(socket.create_connection(address_of(url_of(server)), timeout=30))
            for _ in range(40)
        ]
        assert ask(url_of(server))[0] == 200
        assert all(ended(each) for each in hanging), "they had five seconds"
        # All streams are older than that, and go on.
        for stream in streams:
            for _ in range(6):
                stream.event()
        streams[0].close()

        def has_a_place() -> bool:
            with contextlib.closing(Stream(server)) as another:
                return another.status == 200

        wait_until(has_a_place, "the place of a page that is closed is free again")


def test_the_streams_end_with_the_server(app: Umbel, serving: Any) -> None:
    server = serving(admin="127.0.0.1:0", dashboard=True, drain=300)
    with looking(server) as stream:
        stream.event()
        server.stop()
        with contextlib.suppress(ConnectionError):
            while stream.response.readline():
                pass
        wait_until(lambda: server._last is not None, "the server has stopped")

"""Keys of tokens that are had by URL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from calling import CALLS, HISTORY, program
from coming_back import opened, until
from streams import PATH, stream
from test_jwt import bearer, end
from tokens import encoded, modulus, token
from umbel import JWT, Server, Umbel
from umbel._declaring import jwks
from websockets.asyncio.client import connect
from wire import Wire, wire

Answer = tuple[int, dict[str, str], bytes]


def key(kid: str | None = "a", **more: Any) -> dict[str, Any]:
    number = modulus().to_bytes(256)
    named = {} if kid is None else {"kid": kid}
    return {"kty": "RSA", "n": encoded(number), "e": "AQAB", **named, **more}


def keys(*kids: str) -> Answer:
    return 200, {}, json.dumps({"keys": [key(kid) for kid in kids]}).encode()


def signed(kid: str = "a", subject: str = "ann", **options: Any) -> str:
    return token(subject, algorithm="RS256", header={"kid": kid}, **options)


class Issuer:
    """Has keys at its URL, or something else."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                issuer.gate.wait(20)
                status, headers, body = issuer.answer
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/keys"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer(keys("a"))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 10
    while any(thread.name == "umbel-jwks" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def soon(monkeypatch: pytest.MonkeyPatch, rest: float = 0.05, period: float = 300.0) -> None:
    monkeypatch.setattr(jwks, "REST", rest)
    monkeypatch.setattr(jwks, "PERIOD", period)


def application(issuer: Issuer, **settings: Any) -> Umbel:
    app = Umbel(auth=JWT(jwks_url=issuer.url, algorithms=["RS256"]), **CALLS, **settings)
    app.channel("news", open=True)
    return app


async def comes(server: Server, text: str) -> str:
    """How a client is met that shows a token: its subject, or the reason and the close code."""
    url = server.url.replace("http", "ws") + "/ws"
    async with connect(url, proxy=None, additional_headers=bearer(text)) as connection:
        first = await Wire(connection).hear()
        if first["type"] == "connection_established":
            return str(first["subject"])
        _, code, _ = await end(connection)
        return f"{first['details']['reason']} {code}"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "the keys of" in record.getMessage()]


# Being let in


async def test_a_server_has_its_keys_by_url(issuer: Issuer) -> None:
    async with application(issuer).serve(port=0) as server:
        assert await comes(server, signed()) == "ann"
        assert await comes(server, signed(subject="bob")) == "bob"
        assert issuer.asked == 1


async def in_header(server: Server) -> str:
    return await comes(server, signed("new"))


async def in_first_message(server: Server) -> str:
    async with opened(server) as client:
        await client.say("authenticate", token=signed("new"))
        return str((await client.hear("connection_established"))["subject"])


async def in_stream(server: Server) -> str:
    async with stream(server, f"{PATH}/news", bearer(signed("new"))) as news:
        return str((await news.hear("connected")).data["subject"])


async def renewed(server: Server) -> str:
    async with wire(server, additional_headers=bearer(signed("a"))) as client:
        await client.say("authenticate", token=signed("new", role="owner"), id=1)
        await client.say("heartbeat", id=2)
        answers = [await client.hear() for _ in range(2)]
        assert [answer["id"] for answer in answers] == [1, 2], "in their order"
        return str(answers[0]["subject"])


async def in_call(server: Server) -> str:
    async with program(server) as caller:
        response = await caller.get(f"{HISTORY}/news", **bearer(signed("new")))
        return "ann" if response.status == 200 else str(response.body)


@pytest.mark.parametrize("way", [in_header, in_first_message, in_stream, renewed, in_call])
async def test_a_client_waits_for_a_key_that_is_new(
    way: Callable[[Server], Any], issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon(monkeypatch)
    async with application(issuer).serve(port=0) as server:
        assert await comes(server, signed("a")) == "ann"
        issuer.answer = keys("a", "new")
        issuer.gate.clear()
        await asyncio.sleep(0.2)  # the rest after the first answer
        coming = asyncio.create_task(way(server))
        await until(lambda: issuer.asked == 2)
        await asyncio.sleep(0.1)
        assert not coming.done()
        issuer.gate.set()
        assert await coming == "ann"


async def test_while_keys_come_pings_are_answered_and_nobody_delays_the_stop(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon(monkeypatch)
    async with application(issuer).serve(port=0) as server:
        client = await connected(server)
        issuer.gate.clear()
        await asyncio.sleep(0.2)
        await client.say("authenticate", token=signed("new"))
        strangers = [asyncio.create_task(in_header(server)) for _ in range(3)]
        await until(lambda: issuer.asked == 2)
        async with asyncio.timeout(2):
            await (await client.connection.ping())
        async with asyncio.timeout(2.5):  # nobody waits for the end of three seconds
            await server.stop(within=20)
        issuer.gate.set()
        await asyncio.gather(*strangers, return_exceptions=True)
        await client.connection.close()


async def connected(server: Server) -> Wire:
    url = server.url.replace("http", "ws") + "/ws"
    client = Wire(await connect(url, proxy=None, additional_headers=bearer(signed("a"))))
    await client.hear("connection_established")
    return client


async def test_a_new_key_is_had_while_python_is_blocked(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon(monkeypatch)
    async with application(issuer).serve(port=0) as server:
        assert await comes(server, signed("a")) == "ann"
        issuer.answer = keys("new")
        await asyncio.sleep(0.2)
        heard: list[str] = []
        thread = threading.Thread(target=lambda: heard.append(asyncio.run(comes(server, signed("new")))))
        thread.start()
        thread.join()  # the loop of the server waits, and with it all of its functions
        assert heard == ["ann"]


async def test_whatever_keys_tokens_name_they_are_fetched_once_in_a_while(issuer: Issuer) -> None:
    async with application(issuer).serve(port=0) as server:
        assert await comes(server, signed()) == "ann"
        for number in range(20):
            assert await comes(server, signed(f"kid-{number}")) == "unknown_key 4401"
        assert issuer.asked == 1


async def test_a_key_that_was_withdrawn_goes_with_the_tokens_that_are_known(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon(monkeypatch, period=0.1)
    issuer.answer = keys("a", "b")
    one, two = signed("a"), signed("b", "bob")
    async with application(issuer).serve(port=0) as server:
        assert [await comes(server, text) for text in (one, two)] == ["ann", "bob"]
        issuer.answer = keys("b")
        asked = issuer.asked
        await until(lambda: issuer.asked > asked + 1)
        assert [await comes(server, text) for text in (one, two)] == ["unknown_key 4401", "bob"]


# When there are none


async def test_a_server_starts_without_keys_and_has_them_later(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    soon(monkeypatch, rest=0.2)
    caplog.set_level(logging.INFO, "umbel")
    issuer.answer = (500, {}, b"")
    async with application(issuer).serve(port=0) as server:
        await until(lambda: issuer.asked >= 3)
        assert (await comes(server, "a.b.c")).startswith("malformed")
        issuer.answer = keys("a")
        await until(lambda: any("again" in line for line in lines(caplog)))
        assert await comes(server, signed()) == "ann"
    [failed, again] = lines(caplog)
    assert "the answer has status 500; clients with tokens are refused until they come" in failed
    assert again.endswith("can be had again")


async def test_without_keys_clients_are_told_to_come_back(issuer: Issuer) -> None:
    issuer.answer = (500, {}, b"")
    async with application(issuer).serve(port=0) as server:
        await until(lambda: issuer.asked == 1)
        assert await comes(server, signed()) == "no_keys 1013"
        async with opened(server) as client:
            await client.say("authenticate", token=signed())
            [error], code, _ = await end(client.connection)
            assert (error["code"], error["details"]["reason"], code) == ("unauthenticated", "no_keys", 1013)
        async with stream(server, f"{PATH}/news", bearer(signed())) as news:
            # Any other status would end an EventSource for ever.
            assert news.status == 200
            assert (await news.hear("server_error")).data["details"]["reason"] == "no_keys"
            closed = (await news.hear("closed")).data
            assert (closed["code"], closed["reconnect"]) == (1013, True)


async def test_keys_count_for_a_day_without_good_answers(issuer: Issuer) -> None:
    async with application(issuer).serve(port=0) as server:
        text = signed(lasts=86_400)
        assert await comes(server, text) == "ann"
        core = server._core
        assert core is not None
        core.advance_clock(86_300)
        assert await comes(server, text) == "ann"
        core.advance_clock(105)
        assert await comes(server, text) == "no_keys 1013"


HUGE = json.dumps({"keys": [key("a")], "more": "x" * (256 << 10)}).encode()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((200, {}, b'{"keys": []}'), "has no key for these algorithms"),
        ((200, {}, HUGE), "more than 256 KiB"),
        ((410, {}, b""), "status 410"),
        ((200, {}, b"<html>"), "this is no JWK Set"),
        ((200, {}, b"\xff" * 99), "this is no JWK Set"),
        ((204, {}, b""), "status 204"),
        ((200, {}, b""), "this is no JWK Set"),
        ((302, {"Location": "/keys?again"}, b""), "status 302, and redirects are not followed"),
        ((200, {}, json.dumps({"keys": [key("a"), key("a")]}).encode()), "two keys have the same kid"),
        ((200, {}, json.dumps({"keys": [{"kty": "oct", "k": "YQ"}]}).encode()), "sets are for public keys"),
        ((200, {}, json.dumps({"keys": [key("a", n="AQAB")]}).encode()), "2048 to 8192 bits"),
        ((200, {}, json.dumps({"keys": [key("a", use="enc")]}).encode()), "has no key for these"),
        ((200, {"Content-Length": "9999"}, b'{"keys"'), "this is no JWK Set"),
    ],
)
async def test_a_bad_answer_changes_nothing_and_has_one_line(
    answer: Answer,
    why: str,
    issuer: Issuer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    soon(monkeypatch, period=0.1)
    async with application(issuer).serve(port=0) as server:
        assert await comes(server, signed()) == "ann"
        issuer.answer = answer
        asked = issuer.asked
        await until(lambda: issuer.asked >= asked + 4)
        assert await comes(server, signed(subject="bob")) == "bob"
    [line] = lines(caplog)
    assert why in line
    assert "those from before count for a day" in line


async def test_a_call_that_waits_for_a_key_does_not_end_with_the_client_before_it(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon(monkeypatch)
    app = application(issuer)
    async with app.serve(port=0) as server, program(server) as caller:
        before = bearer(signed("a", "ann", issued=time.time() - 5))
        assert (await caller.get(f"{HISTORY}/news", **before)).status == 200
        issuer.answer = keys("a", "new")
        issuer.gate.clear()
        await asyncio.sleep(0.2)
        call = asyncio.create_task(caller.get(f"{HISTORY}/news", **bearer(signed("new", "bob"))))
        await until(lambda: issuer.asked == 2)
        app.revoke("ann")
        await asyncio.sleep(0.2)
        issuer.gate.set()
        response = await call
        assert (response.status, response.kept) == (200, True), response.body
        assert (await caller.get(f"{HISTORY}/news", **before)).status == 401


async def test_an_issuer_that_does_not_answer_keeps_nobody_for_long(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jwks, "PATIENCE", 0.3)
    issuer.gate.clear()
    async with application(issuer).serve(port=0) as server:
        assert await comes(server, signed()) == "no_keys 1013"
    [line] = lines(caplog)
    assert "no whole answer within 0 s" in line


async def test_one_set_of_keys_serves_one_server_after_the_other(issuer: Issuer) -> None:
    app = application(issuer)
    for number in (1, 2):
        async with app.serve(port=0) as server:
            assert await comes(server, signed()) == "ann"
            await until(lambda number=number: issuer.asked == number)  # type: ignore[misc]


# Other programs, and declarations


def test_keys_are_fetched_for_a_program_without_a_server(issuer: Issuer) -> None:
    auth = JWT(jwks_url=issuer.url, algorithms=["RS256"])
    assert issuer.asked == 0
    for kid, expected in (("a", None), ("a", None), ("b", "names no key"), ("c", "names no key")):
        with contextlib.nullcontext() if expected is None else pytest.raises(ValueError, match=expected):
            assert auth.verify(signed(kid)).subject == "ann"
    assert issuer.asked == 1


def test_only_urls_that_nobody_on_the_way_can_answer_are_taken() -> None:
    for url in ("https://id.example/keys", "http://localhost:1/k", "http://127.0.0.9/k", "http://[::1]/k"):
        assert repr(JWT(jwks_url=url, algorithms=["RS256"])) == "<JWT RS256>"
    for url, advice in [
        ("http://id.example/keys", "must begin with https://"),
        ("http://127.0.0.1.id.example/keys", "must begin with https://"),
        ("ftp://id.example/keys", "must be a URL"),
        ("file:///etc/passwd", "must be a URL"),
        ("/keys", "must be a URL"),
        ("https://", "must be a URL"),
        ("https://me:secret@id.example/keys", "has a user or a password"),
    ]:
        with pytest.raises(ValueError, match=advice) as error:
            JWT(jwks_url=url, algorithms=["RS256"])
        assert "secret" not in str(error.value)
    with pytest.raises(ValueError, match="no key for HS256"):
        JWT(jwks_url="https://id.example/keys", algorithms=["HS256"])
    with pytest.raises(TypeError, match="jwks_url must be a str"):
        JWT(jwks_url=7, algorithms=["RS256"])  # type: ignore[arg-type]


def test_what_a_token_says_of_keys_is_ignored(issuer: Issuer) -> None:
    other = Issuer(keys("b"))
    try:
        auth = JWT(jwks_url=issuer.url, algorithms=["RS256"])
        header = {"kid": "b", "jku": other.url, "x5u": other.url, "jwk": key("b"), "x5c": ["AA=="]}
        with pytest.raises(ValueError, match="names no key"):
            auth.verify(token(algorithm="RS256", header=header))
        assert other.asked == 0
    finally:
        other.close()

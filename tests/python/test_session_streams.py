"""Sessions on streams: how they begin, what comes on them, and who is refused."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import coming_back
import orjson
import pytest
from calling import program
from coming_back import until
from looping import on_loops
from talking import JSON, MESSAGES, SESSION, Talk, again, asked, begun, post, refusal, refused, resumed
from test_jwt import bearer, secret
from tokens import token
from umbel import Client, Identity, Message, Refused, Request, Server, Umbel
from wire import Wire


def application(**settings: Any) -> Umbel:
    app = Umbel(**settings)
    app.channel("room:{x}", open=True, publish=True, history=5)

    @app.on("ask")
    async def ask(client: Client, message: Message) -> Any:
        return message.data

    return app


def without_times(message: Any) -> Any:
    """What is the same whenever and by whom it is asked for."""
    if isinstance(message, dict):
        changing = ("timestamp", "clientId", "epoch", "session", "incident")
        return {name: without_times(it) for name, it in message.items() if name not in changing}
    return [without_times(it) for it in message] if isinstance(message, list) else message


async def script(it: Wire | Talk) -> list[Any]:
    """Says one thing after another; returns what was heard."""
    heard = [it.greeting]
    for message, answers in [
        ({"type": "heartbeat", "id": "é"}, ["heartbeat_ack"]),
        ({"type": "subscribe_updates", "channel": "room:a", "id": 1}, ["subscription_established"]),
        (
            {"type": "publish", "channel": "room:a", "data": {"ü": "\r\n\n"}, "key": "k", "event": "news"},
            ["published"],
        ),
        ({"type": "ask", "data": [1, "\u2028"], "id": 2}, ["ask_result"]),
        ({"type": "ask", "data": [1, "\u2028"], "id": 2}, ["ask_result"]),
        ({"type": "ask", "data": "another", "id": 2}, ["error"]),
        ({"type": "ask"}, []),
        ({"type": "nothing", "id": 3}, ["error"]),
        (
            {"type": "subscribe_updates", "channels": ["room:a", "room:b", "none"], "id": 4},
            ["subscription_established", "subscription_established", "error"],
        ),
        ({"type": "unsubscribe_updates", "channel": "room:a"}, ["subscription_ended"]),
        ({"type": "resume", "session": "x", "attempt": 1, "positions": {}}, ["error"]),
        ({"type": 7}, ["error"]),
    ]:
        await it.say(**message)  # type: ignore[arg-type]
        for kind in answers:
            while (answer := await it.hear())["type"] != kind:
                assert answer["type"] == "update", answer
                heard.append(answer)
            heard.append(answer)
    return [without_times(message) for message in heard]


@on_loops
async def test_a_stream_has_the_messages_of_a_websocket() -> None:
    async with application().serve(port=0) as server, coming_back.begun(server) as socket:
        expected = await script(socket)
    async with application().serve(port=0) as server, begun(server) as it:
        headers = it.events.headers
        assert headers["content-type"] == "text/event-stream"
        assert headers["cache-control"] == "no-store, no-transform"
        assert headers["x-accel-buffering"] == "no"
        assert set(it.greeting) == set(socket.greeting)
        heard = await script(it)
    # An update comes with the next batch, so it is before one answer or another.
    for updates in (False, True):
        parts = [[it for it in them if (it["type"] == "update") == updates] for them in (heard, expected)]
        assert parts[0] == parts[1]


@on_loops
async def test_direct_messages_runs_and_functions_know_it_as_a_client_like_others() -> None:
    app = application()
    clients: list[Client] = []
    noted: list[str] = []
    app.on_connect(clients.append)
    app.on_away(lambda client, code, reason: noted.append(f"away {code}"))
    app.on_back(lambda client: noted.append("back"))
    app.on_disconnect(lambda client, code, reason: noted.append(f"disconnect {code}"))

    async with app.serve(port=0) as server:
        async with begun(server, {"User-Agent": "x"}) as it:
            await until(lambda: clients)
            assert clients[0].id == it.greeting["clientId"]
            assert clients[0].request.path == SESSION
            clients[0].send("hello")
            private = f"@{clients[0].id}"
            assert (await it.hear("subscription_established"))["channel"] == private
            assert (await it.hear("update"))["data"] == "hello"
        await until(lambda: noted == ["away 1006"])
        clients[0].send("meanwhile")
        async with resumed(server, it, 1) as it:
            assert it.greeting["resumed"] is True
            assert it.greeting["clientId"] == clients[0].id
            await until(lambda: noted[1:] == ["back"])
            assert [(await it.hear("update"))["data"] for _ in range(2)] == ["hello", "meanwhile"]
            clients[0].close(4500, "enough")
            assert await it.closed() == (4500, False)
        assert noted[2:] == ["disconnect 4500"]
        async with resumed(server, it, 2) as it:
            assert (it.greeting["resumed"], it.greeting["reason"]) == (False, "unknown")


async def test_a_token_is_shown_in_the_message_the_header_or_a_cookie() -> None:
    app = Umbel(auth=secret(cookie="login"))
    one, other = token("ann"), token("ben")
    cookie = {"Cookie": f"login={other}", "Sec-Fetch-Site": "same-origin"}
    async with app.serve(port=0) as server:
        async with begun(server, token=one) as it:
            assert it.greeting["subject"] == "ann"
        async with begun(server, bearer(one)) as it:
            assert it.greeting["subject"] == "ann"
        async with begun(server, cookie) as it:
            assert it.greeting["subject"] == "ben"
        async with begun(server, cookie, token=one) as it:
            assert it.greeting["subject"] == "ann", "a cookie counts last"
        async with resumed(server, it, 1) as it:
            assert (it.greeting["resumed"], it.greeting["subject"]) == (True, "ann")
        async with resumed(server, it, 2, token=other) as it:
            assert (it.greeting["resumed"], it.greeting["reason"]) == (False, "subject")
            assert it.attempt == 0
            await it.say("heartbeat")
            await it.hear("heartbeat_ack")
        first = {"type": "authenticate"}
        assert await refused(server, first) == (401, "unauthenticated", 4401)
        assert await refused(server, {**first, "token": token(lasts=-99)}) == (401, "unauthenticated", 4401)
        assert await refused(server, {**first, "token": one}, bearer(one)) == (403, "bad_token", 4503)
        assert await refused(server, {**first, "token": "x"}) == (403, "bad_token", 4503)


async def test_an_application_decides_by_the_first_message_and_its_codes_are_statuses() -> None:
    app = Umbel(max_connections_per_identity=1)
    told: list[tuple[str | None, str]] = []

    @app.authenticate
    async def who(request: Request) -> str | None:
        told.append((request.token, request.path))
        match request.token:
            case "bug":
                raise RuntimeError("a bug")
            case "own":
                raise Refused(4600, "never")
            case "later":
                raise Refused(4100, "not now")
        return request.token

    async with app.serve(port=0) as server:
        for shown, answer in {
            None: (401, "unauthenticated", 4401),
            "bug": (503, "internal", 1011),
            "own": (403, "not_allowed", 4600),
            "later": (503, "not_allowed", 4100),
        }.items():
            first = {"type": "authenticate"} | ({} if shown is None else {"token": shown})
            assert await refused(server, first) == answer, shown
        async with begun(server, token="ann") as it:
            assert it.greeting["subject"] == "ann"
            assert await refused(server, it.first) == (429, "limit_exceeded", 4429)
            async with resumed(server, it, 1, token="ann") as later:
                assert later.greeting["resumed"] is True
                assert await it.closed() == (4502, False)
    assert {path for _, path in told} == {SESSION}


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"[]", 400),
        (b'"authenticate"', 400),
        ({"type": "subscribe_updates", "channel": "room:a"}, 400),
        ({"type": "authenticate", "token": 7}, 400),
        ({"type": "authenticate", "part": 0}, 400),
        ({"type": "authenticate", "part": 2}, 400),
        ({"type": "authenticate", "part": "1"}, 400),
        ({"type": "resume", "session": "x"}, 400),
        ({"type": "resume", "session": "x", "attempt": 0, "positions": {}}, 400),
        ({"type": "resume", "session": "x", "attempt": 0, "positions": {}, "part": 1}, 400),
        ({"type": "resume", "session": "x", "attempt": 1, "positions": []}, 400),
        ({"type": "resume", "session": "x", "attempt": 1, "positions": {"a": 1}}, 400),
    ],
)
async def test_what_is_no_first_message_is_refused(first: Any, status: int) -> None:
    app = application()
    clients: list[Client] = []
    app.on_connect(clients.append)
    async with app.serve(port=0) as server, asked(server, first) as it:
        body = (await it.body()).decode()
        assert it.events.status == status
        assert "bad_message" in body
    assert not clients


async def test_requests_that_are_none_for_a_session() -> None:
    length = {"Content-Length": "23"}
    body = b'{"type":"authenticate"}'
    async with application(max_message=1000, max_subscriptions=1).serve(port=0) as server:
        for path in (SESSION, MESSAGES):
            for line, headers, text, status in [
                (f"GET {path}", {}, b"", 405),
                (f"PUT {path}", length, body, 405),
                (f"DELETE {path}", {}, b"", 405),
                (f"POST {path}", JSON, b"", 411),
                (f"POST {path}", {**length, "Content-Type": "text/plain"}, body, 415),
                (f"POST {path}", length, body, 415),
                (f"POST {path}", {**JSON, "Content-Length": "100000"}, b"", 413),
                (f"POST {path}", {**JSON, "Transfer-Encoding": "chunked"}, b"", 400),
                (f"POST {path}", {**JSON, **length, "content-length": "24"}, b"", 400),
                (f"POST {path}/", {**JSON, **length}, body, 404),
                (f"POST {path}s", {**JSON, **length}, body, 404),
                (f"POST {path}", {**JSON, **length, "Origin": "https://other.example"}, b"", 403),
                (f"POST {path}", {**JSON, **length, "Sec-Fetch-Site": "cross-site"}, b"", 403),
            ]:
                async with program(server) as caller:
                    caller.send(line, headers, text)
                    assert (await caller.hear()).status == status, line
        async with program(server) as caller:
            caller.send(f"POST {SESSION}", {**JSON, **length, "Cookie": "a=b"}, b"")
            assert (await caller.hear()).status == 403, "another site can make a browser send this"
    for settings in ({"session_path": None}, {"session_ttl": 0}):
        async with application(**settings).serve(port=0) as server, program(server) as caller:
            assert (await caller.post({"type": "authenticate"}, SESSION)).status == 404


async def test_a_body_in_pieces_and_one_that_waits_for_leave() -> None:
    body = orjson.dumps({"type": "authenticate"})
    headers = {"Content-Type": "Application/JSON; charset=utf-8", "Content-Length": str(len(body))}
    async with application().serve(port=0) as server:
        async with program(server) as caller:
            caller.send(f"POST {SESSION}", headers)
            for byte in body:
                caller.writer.write(bytes([byte]))
                await asyncio.sleep(0.001)
            head = (await caller.reader.readuntil(b"\r\n\r\n")).decode()
            assert head.startswith("HTTP/1.1 200 ")
        async with program(server) as caller:
            caller.send(f"POST {SESSION}", {**headers, "Expect": "100-continue"})
            assert (await caller.hear_continue()).startswith("HTTP/1.1 100 ")
            caller.writer.write(body)
            assert b" 200 " in await caller.reader.readuntil(b"\r\n\r\n")


async def test_http_1_0_has_a_stream_that_ends_with_its_connection() -> None:
    async with application().serve(port=0) as server, AsyncExitStack() as stack:
        it = await stack.enter_async_context(asked(server, {"type": "authenticate"}, version="1.0"))
        assert "transfer-encoding" not in it.events.headers
        await it.hear_greeting()
        it.caller = await stack.enter_async_context(program(server))
        await it.say("heartbeat", id=1)
        assert (await it.hear("heartbeat_ack"))["id"] == 1
        async with resumed(server, it, 1):
            assert await it.closed() == (4502, False)


async def preflight(server: Server, path: str, origin: str) -> dict[str, str]:
    names = {"Access-Control-Request-Headers": "authorization,content-type"}
    async with program(server) as caller:
        caller.send(f"OPTIONS {path}", {"Origin": origin, "Access-Control-Request-Method": "POST", **names})
        return (await caller.hear()).headers


async def test_pages_of_other_origins_may_have_what_origins_allows() -> None:
    page = "https://page.example"
    app = application(origins=[page])
    async with app.serve(port=0) as server:
        for path in (SESSION, MESSAGES):
            allowed = await preflight(server, path, page)
            assert allowed["access-control-allow-origin"] == page
            assert allowed["access-control-allow-credentials"] == "true"
            assert allowed["access-control-allow-methods"] == "POST, OPTIONS"
            names = {name.strip().lower() for name in allowed["access-control-allow-headers"].split(",")}
            assert {"authorization", "content-type"} <= names
            assert allowed["access-control-max-age"] == "600"
            assert "access-control-allow-origin" not in await preflight(server, path, "https://other.example")
        async with begun(server, {"Origin": page}) as it:
            assert it.events.headers["access-control-allow-origin"] == page
            assert it.events.headers["vary"] == "Origin"
            assert it.caller
            it.number += 1
            for status in (202, 202):
                answer = await post(it.caller, it.token, it.list_of({"type": "heartbeat"}), Origin=page)
                assert answer.status == status
                assert answer.headers["access-control-allow-origin"] == page
            for body, status in [(b"{", 400), (it.list_of(number=9), 409), (it.list_of(attempt=7), 409)]:
                answer = await post(it.caller, it.token, body, Origin=page)
                assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, page)
        async with asked(server, {"type": "resume"}, {"Origin": page}) as it:
            assert (it.events.status, it.events.headers["access-control-allow-origin"]) == (400, page)


async def test_a_stream_that_says_nothing_has_comments() -> None:
    async with application().serve(port=0, heartbeat=0.1) as server, begun(server) as it:
        while it.events.parser.comments < 2:
            assert not it.events.parser.feed((await it.events._read()).decode())


async def test_an_attempt_that_was_accepted_is_answered_with_the_number_of_that() -> None:
    async with application().serve(port=0) as server, begun(server) as it:
        async with resumed(server, it, 5) as fifth:
            for attempt in (1, 4, 5):
                status, error = await refusal(server, again(it, attempt))
                assert (status, error["type"], error["code"]) == (409, "error", "superseded")
                assert error["details"] == {"attempt": 5}, attempt
            await fifth.say("heartbeat", id=1)
            assert (await fifth.hear("heartbeat_ack"))["id"] == 1, "they have no other effect"
        # The same when nobody is there.
        assert (await refusal(server, again(it, 5)))[0] == 409
        async with resumed(server, it, 6) as sixth:
            assert sixth.greeting["resumed"] is True


async def test_an_identity_may_end_on_a_stream() -> None:
    app = application()

    @app.authenticate
    def who(request: Request) -> Identity:
        return Identity("ann")

    async with app.serve(port=0) as server, begun(server) as it:
        await it.say("authenticate", token="x", id=1)
        assert (await it.hear("error"))["code"] == "bad_message"

"""Programs that publish and read over HTTP."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from calling import CALLS, HISTORY, PUBLISH, program
from looping import on_loops
from test_jwt import bearer, secret
from tokens import token
from umbel import Client, ConfigurationError, Identity, Rejected, Request, Umbel
from wire import wire


def application(**settings: Any) -> Umbel:
    app = Umbel(**CALLS, **settings)
    app.channel("open:{x}", open=True, publish=True, history=5)
    app.channel("read:{x}", open=True, history=3)
    return app


def one(channel: str, data: Any = 1, **more: Any) -> dict[str, Any]:
    return {"channel": channel, "data": data, **more}


@on_loops
async def test_a_program_publishes_to_readers_on_a_connection_that_is_kept() -> None:
    async with application().serve(port=0) as server, wire(server) as reader, program(server) as caller:
        await reader.say("subscribe_updates", channel="open:a")
        await reader.hear("subscription_established")
        for offset in (1, 2):
            response = await caller.post(one("open:a", {"n": offset}, event="done"))
            assert (response.status, response.kept) == (200, True)
            epoch = response.body.pop("epoch")
            assert (response.body, len(epoch)) == (
                {"type": "published", "channel": "open:a", "offset": offset},
                16,
            )
            assert response.headers["cache-control"] == "no-store"
        updates = [await reader.hear("update") for _ in range(2)]
        assert [(update["data"], update["event"]) for update in updates] == [
            ({"n": 1}, "done"),
            ({"n": 2}, "done"),
        ]


@on_loops
async def test_a_list_has_a_result_for_each_item_in_order() -> None:
    app = application()

    async def asked(client: Client, x: str, data: Any) -> bool:
        await asyncio.sleep(0.01)
        return x == "yes"

    app.channel("asked:{x}", open=True, publish=asked)

    async with app.serve(port=0) as server, program(server) as caller:
        response = await caller.post(
            [
                one("open:a"),
                one("asked:no"),
                one("asked:yes"),
                one("none"),
                {"channel": "open:a"},
                one("open:a", key="k"),
            ]
        )
        assert response.status == 200
        results = response.body["results"]
        assert [result.get("offset") or result["code"] for result in results] == [
            1,
            "not_allowed",
            1,
            "unknown_channel",
            "bad_message",
            2,
        ]
        assert (await caller.post([])).body == {"results": []}


@on_loops
async def test_errors_of_one_publication_are_statuses_and_keep_the_connection() -> None:
    app = application()

    def words(client: Client, x: str, data: Any) -> bool:
        if x == "own":
            raise Rejected("sold_out", "nothing is left")
        raise RuntimeError("a bug")

    app.channel("words:{x}", open=True, publish=words)

    async with app.serve(port=0) as server, program(server) as caller:
        for data, status, code in [
            (b"{", 400, "bad_message"),
            (b"\xff", 400, "bad_message"),
            (b"1", 400, "bad_message"),
            (b"[1", 400, "bad_message"),
            (one("open:a", event="error"), 400, "bad_message"),
            (one(""), 400, "bad_channel"),
            (one("none"), 404, "unknown_channel"),
            (one("@x"), 400, "bad_channel"),
            (one("read:a"), 403, "not_allowed"),
            (one("words:own"), 422, "sold_out"),
            (one("words:bug"), 500, "internal"),
        ]:
            response = await caller.post(data)
            assert (response.status, response.body["code"], response.kept) == (status, code, True), data
        assert (await caller.post(one("open:a"))).status == 200


async def test_a_body_that_is_not_wanted_ends_the_connection() -> None:
    json = {"Content-Type": "application/json"}
    async with application(max_message=1000).serve(port=0) as server:
        for line, headers, body, status in [
            (f"POST {PUBLISH}", {"Content-Type": "text/plain", "Content-Length": "2"}, b"{}", 415),
            (f"POST {PUBLISH}", json, b"", 411),
            (f"POST {PUBLISH}", {**json, "Content-Length": "1001"}, b"", 413),
            (f"POST {PUBLISH}", {**json, "Transfer-Encoding": "chunked"}, b"", 400),
            (f"POST {PUBLISH}", {**json, "Content-Length": "2", "content-length": "2"}, b"", 400),
            (f"POST {PUBLISH}", {**json, "Content-Length": "2", "Origin": "https://other.example"}, b"", 403),
            (f"POST {PUBLISH}", {**json, "Content-Length": "2", "Sec-Fetch-Site": "cross-site"}, b"", 403),
            (f"POST {PUBLISH}", {**json, "Content-Length": "2", "Cookie": "a=b"}, b"{}", 403),
            (f"GET {PUBLISH}", {}, b"", 405),
            (f"PUT {PUBLISH}", {"Content-Length": "2"}, b"{}", 405),
            (f"POST {HISTORY}/open:a", {**json, "Content-Length": "2"}, b"{}", 405),
            (f"GET {HISTORY}/open:a?limit=0", {}, b"", 400),
            (f"GET {HISTORY}", {}, b"", 404),
        ]:
            async with program(server) as caller:
                caller.send(line, headers, body)
                response = await caller.hear()
                assert (response.status, response.kept) == (status, False), line
                assert await caller.is_over()


@on_loops
async def test_a_body_in_parts_and_one_that_waits_for_leave() -> None:
    body = b'{"channel":"open:a","data":1}'
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    async with application().serve(port=0) as server, program(server) as caller:
        caller.send(f"POST {PUBLISH}", headers | {"Expect": "100-continue"})
        assert (await caller.hear_continue()) == "HTTP/1.1 100 Continue"
        for byte in body:
            caller.writer.write(bytes([byte]))
            await caller.writer.drain()
        assert (await caller.hear()).body["offset"] == 1
        # A body that came along needs no leave.
        caller.send(f"POST {PUBLISH}", headers | {"Expect": "100-continue"}, body)
        assert (await caller.hear()).body["offset"] == 2


async def test_a_request_behind_a_request_is_not_read() -> None:
    async with application().serve(port=0) as server, program(server) as caller:
        body = b'{"channel":"open:a","data":1}'
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        caller.send(f"POST {PUBLISH}", headers, body + b"POST ")
        response = await caller.hear()
        assert (response.status, response.kept) == (200, False)
        assert await caller.is_over()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_connection_ends_when_its_client_wants_that(version: str) -> None:
    async with application().serve(port=0) as server, program(server) as caller:
        line = f"GET {HISTORY}/open:a HTTP/{version}\r\nHost: a\r\n"
        caller.writer.write(f"{line}Connection: {'close' if version == '1.1' else 'x'}\r\n\r\n".encode())
        assert (await caller.hear()).kept is False
        assert await caller.is_over()


@on_loops
async def test_a_history_is_read_in_parts_until_its_top() -> None:
    app = application()
    async with app.serve(port=0) as server, program(server) as caller:
        empty = (await caller.get(f"{HISTORY}/read:a")).body
        assert empty["epoch"] is None and empty["updates"] == [] and empty["top"] == 0
        for number in range(1, 6):
            app.publish("read:a", number)
        newest = (await caller.get(f"{HISTORY}/read:a?limit=2")).body
        assert [update["data"] for update in newest["updates"]] == [4, 5]
        epoch = newest["epoch"]
        part = (await caller.get(f"{HISTORY}/read:a?epoch={epoch}&offset=2&limit=2")).body
        assert ([update["offset"] for update in part["updates"]], part["offset"], part["gap"]) == (
            [3, 4],
            4,
            False,
        )
        rest = (await caller.get(f"{HISTORY}/read:a?epoch={epoch}&offset={part['offset']}")).body
        assert (rest["offset"], rest["top"], len(rest["updates"])) == (5, 5, 1)
        lost = (await caller.get(f"{HISTORY}/read:a?epoch={epoch}&offset=1")).body
        assert lost["gap"] is True and [update["data"] for update in lost["updates"]] == [3, 4, 5]
        for target, status in [("none", 404), ("%40private", 400), (f"read:a?epoch={epoch}", 400)]:
            async with program(server) as other:
                assert (await other.get(f"{HISTORY}/{target}")).status == status


async def test_a_history_is_at_most_a_mebibyte_and_goes_on() -> None:
    app = Umbel(**CALLS)
    app.channel("big", open=True, history=10, history_bytes=8 << 20)
    async with app.serve(port=0) as server, program(server) as caller:
        for _ in range(5):
            app.publish("big", "x" * 400_000)
        offset, parts = 0, []
        epoch = (await caller.get(f"{HISTORY}/big?limit=1")).body["epoch"]
        while offset < 5:
            part = (await caller.get(f"{HISTORY}/big?epoch={epoch}&offset={offset}")).body
            parts.append(len(part["updates"]))
            offset = part["offset"]
        assert parts == [2, 2, 1]
        assert len((await caller.get(f"{HISTORY}/big")).body["updates"]) == 2, "the newest"


# Who makes a call


@on_loops
async def test_the_application_is_asked_once_for_calls_that_look_alike() -> None:
    asked, seen = [], []
    app = Umbel(**CALLS)
    app.channel("open:{x}", open=True, publish=True)

    @app.authenticate
    def authenticate(request: Request) -> Identity | None:
        name = request.headers.get("authorization")
        asked.append(name)
        return Identity(name) if name else None

    @app.on_connect
    def connected(client: Client) -> None:
        seen.append("connected")

    @app.on_disconnect
    def disconnected(client: Client, code: int, reason: str) -> None:
        seen.append("disconnected")

    app.channel("own:{name}", open=True, publish=lambda client, name, data: client.identity.subject == name)

    async with app.serve(port=0) as server, program(server) as caller:
        for name in ("ann", "ann", "bob", "ann"):
            response = await caller.post(one(f"own:{name}"), Authorization=name)
            assert response.status == 200, response
            assert (await caller.post(one("own:eve"), Authorization=name)).status == 403
        assert asked == ["ann", "bob", "ann"]
        response = await caller.post(one("open:a"))
        assert (response.status, response.body["code"]) == (401, "unauthenticated")
        assert response.headers["www-authenticate"] == "Bearer"
        assert await caller.is_over() and not seen and app.clients() == []


async def test_an_identity_that_ends_is_asked_for_again() -> None:
    asked = []
    app = Umbel(**CALLS)
    app.channel("open:{x}", open=True, publish=True)

    @app.authenticate
    def authenticate(request: Request) -> Identity:
        asked.append(1)
        return Identity("ann", expires=time.time() + 60 * len(asked))

    async with app.serve(port=0) as server, program(server) as caller:
        for seconds in (0, 0, 61, 0):
            assert server._core is not None
            server._core.advance_clock(seconds)
            if seconds:
                continue
            assert (await caller.post(one("open:a"))).status == 200
        assert len(asked) == 2


@on_loops
async def test_a_token_is_judged_for_each_call_and_python_is_not_asked() -> None:
    app = Umbel(auth=secret(), **CALLS)
    app.channel("task:{x}", claims=True)
    async with app.serve(port=0) as server, program(server) as caller:
        ann = bearer(token("ann", publish=["task:*"]))
        assert (await caller.post(one("task:1"), **ann)).status == 200
        assert (await caller.post(one("task:1"), **bearer(token("bob", publish=["task:2"])))).status == 403
        assert (await caller.get(f"{HISTORY}/task:1", **ann)).status == 403, "it may not read"
        assert (await caller.post(one("task:1"), **ann)).body["offset"] == 2
        app.revoke("ann")
        async with program(server) as other:
            response = await other.post(one("task:1"), **ann)
            assert (response.status, response.body["details"]["reason"]) == (401, "revoked")
        async with program(server) as other:
            response = await other.post(one("task:1"), Authorization="Bearer x.y.z")
            assert (response.status, response.body["code"]) == (403, "bad_token")
            assert await other.is_over()


async def test_a_rule_that_asks_knows_the_client_of_a_token() -> None:
    app = Umbel(auth=secret(), **CALLS)
    seen: list[Any] = []

    def room(client: Client, x: str, data: Any) -> bool:
        seen.append((client.identity.subject, client.identity.claims["color"], client.request.path))
        return True

    app.channel("room:{x}", open=True, publish=room)

    async with app.serve(port=0) as server, program(server) as caller:
        for _ in range(2):
            assert (await caller.post(one("room:1"), **bearer(token("ann", color="red")))).status == 200
        assert seen == [("ann", "red", PUBLISH)] * 2


async def test_open_channels_go_on_while_python_is_blocked() -> None:
    app = application()
    async with app.serve(port=0) as server:
        done: list[int] = []

        def publish() -> None:
            async def calls() -> None:
                async with program(server) as caller:
                    while len(done) < 20:
                        done.append((await caller.post(one("open:a"))).status)

            asyncio.run(calls())

        thread = threading.Thread(target=publish)
        thread.start()
        thread.join(timeout=20)  # blocks the loop of the application
        assert done == [200] * 20


# Keys


@on_loops
async def test_a_repetition_with_the_same_key_is_not_done_again() -> None:
    app = Umbel(auth=secret(), **CALLS)
    app.channel("task:{x}", claims=True)
    async with app.serve(port=0) as server:
        ann = bearer(token("ann", publish=["task:*"]))
        for _ in range(2):
            async with program(server) as caller:  # it may have lost its connection
                for path_key in ("one", "two"):
                    response = await caller.post(
                        [one("task:1"), one("none")], **ann, Idempotency_Key=path_key
                    )
                    assert response.status == 200
                    offset = response.body["results"][0]["offset"]
                    assert offset == {"one": 1, "two": 2}[path_key]
        async with program(server) as caller:
            response = await caller.post(one("task:2"), **ann, Idempotency_Key="one")
            assert (response.status, response.body["code"]) == (409, "id_reused")
            response = await caller.post(
                one("task:1"), **bearer(token("bob", publish=["task:1"])), Idempotency_Key="one"
            )
            assert response.body["offset"] == 3, "the key of somebody else"
            less = bearer(token("ann", publish=["task:9"]))
            response = await caller.post([one("task:1"), one("none")], **less, Idempotency_Key="one")
            assert (response.status, response.body["code"]) == (403, "not_allowed")
            response = await caller.post([one("task:1"), one("none")], **ann, Idempotency_Key="one")
            assert response.headers["idempotency-replayed"] == "true"


async def test_without_an_identity_a_key_is_refused() -> None:
    async with application().serve(port=0) as server, program(server) as caller:
        assert (await caller.post(one("open:a"), Idempotency_Key="k")).status == 400


@on_loops
async def test_a_repetition_waits_for_the_first_and_what_was_not_done_is_done() -> None:
    app = Umbel(auth=secret(), **CALLS)
    go_on, fails = asyncio.Event(), [True]

    async def slow(client: Client, x: str, data: Any) -> bool:
        await go_on.wait()
        if fails:
            fails.clear()
            raise RuntimeError("a bug")
        return True

    app.channel("slow:{x}", open=True, publish=slow)
    async with app.serve(port=0) as server:

        async def call() -> int:
            async with program(server) as caller:
                response = await caller.post(one("slow:1"), **bearer(token("ann")), Idempotency_Key="k")
                return response.body.get("offset", response.status)

        calls = [asyncio.create_task(call()) for _ in range(4)]
        await asyncio.sleep(0.2)
        go_on.set()
        results = sorted(await asyncio.gather(*calls))
        assert results == [1, 1, 1, 500], "one has failed, and the next one has published for the others"


# Endings


@on_loops
async def test_what_was_begun_is_done_although_its_client_goes() -> None:
    app = Umbel(**CALLS)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(client: Client, x: str, data: Any) -> bool:
        begun.set()
        await go_on.wait()
        return True

    app.channel("slow:{x}", open=True, publish=slow)

    async with app.serve(port=0) as server:
        async with program(server) as caller:
            body = b'[{"channel":"slow:1","data":1},{"channel":"slow:1","data":2}]'
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
            caller.send(f"POST {PUBLISH}", headers, body)
            await begun.wait()
        await asyncio.sleep(1.5)  # longer than between two looks at connections that are not read
        go_on.set()
        async with asyncio.timeout(5):
            while len((await app.history("slow:1")).publications) < 2:
                await asyncio.sleep(0.01)


@on_loops
async def test_a_stop_ends_idle_connections_and_lets_a_call_end() -> None:
    app = Umbel(**CALLS)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(client: Client, x: str, data: Any) -> bool:
        begun.set()
        await go_on.wait()
        return True

    app.channel("slow:{x}", open=True, publish=slow)

    async with app.serve(port=0) as server, program(server) as idle, program(server) as busy:
        await idle.get(f"{HISTORY}/slow:1?limit=1")
        call = asyncio.create_task(busy.post(one("slow:1")))
        await begun.wait()
        stop = server.stop()
        assert await idle.is_over()
        go_on.set()
        response = await call
        assert (response.status, response.kept) == (200, False)
        await stop


async def test_a_full_server_ends_idle_connections_first() -> None:
    async with application(max_connections=2).serve(port=0) as server, program(server) as first:
        assert (await first.post(one("open:a"))).status == 200
        async with program(server) as second, program(server) as third:
            assert (await second.post(one("open:a"))).status == 200
            assert (await third.post(one("open:a"))).status == 200
            assert await first.is_over()


async def test_a_connection_is_kept_for_75_seconds() -> None:
    async with application().serve(port=0) as server, program(server) as caller:
        assert server._core is not None
        assert (await caller.post(one("open:a"))).status == 200
        server._core.advance_clock(74)
        assert (await caller.post(one("open:a"))).status == 200
        server._core.advance_clock(76)
        assert await caller.is_over()


async def test_too_many_publications_are_refused_whole() -> None:
    async with application(max_messages_per_second=2).serve(port=0) as server, program(server) as caller:
        assert server._core is not None
        too_long = await caller.post([one("open:a")] * 11)
        assert (too_long.status, too_long.body["code"]) == (400, "bad_message"), "no time would help"
        assert (await caller.post([one("open:a")] * 10)).status == 200
        for _ in range(20):  # who tries again does not make it worse
            response = await caller.post([one("open:a")] * 2)
            assert (response.status, response.headers["retry-after"]) == (429, "1")
        server._core.advance_clock(1)
        assert (await caller.post([one("open:a")] * 2)).body["results"][-1]["offset"] == 12


async def test_another_request_on_the_connection_is_served_too() -> None:
    async with application().serve(port=0) as server, program(server) as caller:
        assert (await caller.post(one("open:a"))).status == 200
        response = await caller.get("/healthz")
        assert (response.status, response.body) == (200, b"ok\n")


# Pages


async def test_a_page_of_a_listed_origin_may_make_calls() -> None:
    page = "https://app.example"
    async with application(origins=[page]).serve(port=0) as server:
        for line, methods in [
            (f"OPTIONS {PUBLISH}", "POST, OPTIONS"),
            (f"OPTIONS {HISTORY}/open:a", "GET, OPTIONS"),
        ]:
            async with program(server) as caller:
                caller.send(line, {"Origin": page, "Access-Control-Request-Method": "POST"})
                response = await caller.hear()
                assert response.status == 204
                assert response.headers["access-control-allow-methods"] == methods
                assert "idempotency-key" in response.headers["access-control-allow-headers"].lower()
        async with program(server) as caller:
            response = await caller.post(one("open:a"), Origin=page, Cookie="a=b")
            assert (response.status, response.headers["access-control-allow-origin"]) == (200, page)


# Mistakes


def test_paths_that_are_not_clear_are_refused() -> None:
    for settings in (
        {"publish_path": "/ws"},
        {"publish_path": "/a", "history_path": "/a"},
        {"publish_path": "/api/v1/stream/a"},
        {"history_path": "/api/v1/publish"},
        {"publish_path": "/a/"},
    ):
        with pytest.raises(ValueError, match="path"):
            Umbel(**settings)


async def test_a_page_where_calls_are_made_is_refused() -> None:
    app = Umbel(publish_path="/say", history_path="/old")
    app.page("/old/news", "text")
    with pytest.raises(ConfigurationError, match="history_path"):
        await app.serve(port=0).__aenter__()

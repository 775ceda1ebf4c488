"""Programs that make calls over HTTP in ways that nobody should, or that nobody expects."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest
from calling import CALLS, HISTORY, PUBLISH, program
from looping import on_loops
from test_jwt import bearer, secret
from tokens import token
from umbel import Client, Identity, Request, Umbel

JSON = {"Content-Type": "application/json"}


def one(channel: str, data: Any = 1) -> dict[str, Any]:
    return {"channel": channel, "data": data}


def open_application(**settings: Any) -> Umbel:
    app = Umbel(**CALLS, **settings)
    app.channel("open:{x}", open=True, publish=True, history=1000)
    return app


class Gate:
    """A publish function that waits, and says that it does."""

    def __init__(self) -> None:
        self.begun, self.go_on, self.calls = asyncio.Event(), asyncio.Event(), 0

    async def __call__(self, client: Client, x: str, data: Any) -> bool:
        self.calls += 1
        self.begun.set()
        await self.go_on.wait()
        return True


async def until(holds: Any) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


# Who makes a call


async def test_claims_that_differ_are_those_of_each_call() -> None:
    app, seen = Umbel(auth=secret(), **CALLS), []

    def room(client: Client, x: str, data: Any) -> bool:
        seen.append(client.identity.claims["role"])
        return True

    app.channel("room:{x}", open=True, publish=room)
    now = time.time()
    async with app.serve(port=0) as server, program(server) as caller:
        for role in ("admin", "guest", "admin"):
            shown = bearer(token("ann", issued=now, role=role))
            assert (await caller.post(one("room:1"), **shown)).status == 200
    assert seen == ["admin", "guest", "admin"]


@on_loops
async def test_what_a_function_does_with_the_program_is_not_the_answer() -> None:
    app = Umbel(**CALLS)
    said: list[Any] = []

    def busy(client: Client, x: str, data: Any) -> bool:
        said.append(client.send("hello"))
        said.append(client.subscribe("other"))
        client.unsubscribe("other")
        return x == "yes"

    app.channel("busy:{x}", open=True, publish=busy)
    app.channel("other", open=True)
    async with app.serve(port=0) as server, program(server) as caller:
        for x, statuses in (("yes", 200), ("no", 403)):
            response = await caller.post(one(f"busy:{x}"))
            assert response.status == statuses, response.body
        assert said == [None, False] * 2, "a program hears nothing but answers"
        assert server.stats().subscriptions == 0


async def test_a_function_that_closes_its_program_ends_the_call() -> None:
    app = Umbel(**CALLS)

    def closing(client: Client, x: str, data: Any) -> bool:
        client.close(4001, "go away")
        return True

    app.channel("closing:{x}", open=True, publish=closing)
    async with app.serve(port=0) as server, program(server) as caller:
        response = await caller.post(one("closing:1"))
        assert (response.status, response.kept) == (503, False)
        assert await caller.is_over()


# What was done in part


@pytest.mark.parametrize("end", ["disconnect", "revoke"])
async def test_a_list_that_was_done_in_part_is_not_done_twice(end: str) -> None:
    app = Umbel(auth=secret(), **CALLS)
    gate = Gate()
    app.channel("open:{x}", open=True, publish=True, history=10)
    app.channel("slow:{x}", open=True, publish=gate)
    async with app.serve(port=0) as server:
        body = [one("open:a"), one("slow:a"), one("open:a", 2)]
        async with program(server) as caller:
            shown = bearer(token("ann", issued=time.time() - 10))
            first = asyncio.create_task(caller.post(body, **shown, Idempotency_Key="k"))
            await gate.begun.wait()
            getattr(app, end)("ann")
            response = await first
            assert (response.status, response.kept) == (200, False), response.body
            codes = [result.get("code") for result in response.body["results"]]
            assert codes[0] is None and all(codes[1:]) and len(codes) == 3
        gate.go_on.set()
        async with program(server) as caller:
            if end == "revoke":
                await asyncio.sleep(1.1)
                shown = bearer(token("ann"))  # not of the second in which it was revoked
            again = await caller.post(body, **shown, Idempotency_Key="k")
            assert again.body == response.body and again.headers["idempotency-replayed"] == "true"
        assert [it.data for it in (await app.history("open:a")).publications] == [1]
        assert gate.calls == 1


async def test_a_call_that_gives_way_to_others_says_what_it_has_done() -> None:
    app = Umbel(auth=secret(), max_held_bytes=1 << 20, max_message=400_000, drain=0.1, **CALLS)
    gate = Gate()
    app.channel("open:{x}", open=True, publish=True, history=10)
    app.channel("slow:{x}", open=True, publish=gate)
    async with app.serve(port=0) as server, program(server) as caller:
        shown = bearer(token("ann"))
        body = [one("open:a"), one("slow:a"), one("slow:a", "x" * 350_000)]
        first = asyncio.create_task(caller.post(body, **shown, Idempotency_Key="k"))
        await gate.begun.wait()
        async with program(server) as one_more, program(server) as another:
            for other in (one_more, another):
                headers = {**JSON, "Content-Length": "400000", **shown}
                other.send(f"POST {PUBLISH}", headers, b"[" + b" " * 390_000)
            response = await first
        assert (response.status, response.kept) == (200, False)
        assert [result.get("offset") for result in response.body["results"]] == [1, None, None]


# Heads and bodies


async def test_http_1_0_gets_no_100() -> None:
    async with open_application().serve(port=0) as server, program(server) as caller:
        body = orjson.dumps(one("open:a"))
        head = f"POST {PUBLISH} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        caller.writer.write(f"{head}Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        await asyncio.sleep(0.1)
        caller.writer.write(body)
        response = await caller.hear()
        assert (response.status, response.kept) == (200, False)


async def test_refused_credentials_get_no_100() -> None:
    app = Umbel(auth=secret(), **CALLS)
    async with app.serve(port=0) as server, program(server) as caller:
        caller.send(f"POST {PUBLISH}", {**JSON, "Content-Length": "2", "Expect": "100-continue"})
        assert (await caller.hear()).status == 401
        assert await caller.is_over()


async def test_a_request_may_be_cut_anywhere() -> None:
    async with open_application().serve(port=0) as server, program(server) as caller:
        body = orjson.dumps(one("open:a"))
        head = f"POST {PUBLISH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        for cut in range(1, len(whole)):
            caller.writer.write(whole[:cut])
            await asyncio.sleep(0.002)
            caller.writer.write(whole[cut:])
            assert (await caller.hear()).body["offset"] == cut


async def test_two_requests_at_once_are_one_request_and_the_end() -> None:
    async with open_application().serve(port=0) as server:
        get = f"GET {HISTORY}/open:a HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        async with program(server) as caller:
            caller.writer.write(get * 2)
            assert (await caller.hear()).kept is False
            assert await caller.is_over()


# Other things on the same connection


@on_loops
async def test_a_stream_after_calls() -> None:
    app = open_application(auth=secret())
    gone: list[str] = []
    here: list[str] = []

    @app.on_connect
    def connected(client: Client) -> None:
        here.append(client.id)

    @app.on_disconnect
    def disconnected(client: Client, code: int, reason: str) -> None:
        gone.append(client.id)

    async with app.serve(port=0) as server:
        async with program(server) as caller:
            assert (await caller.post(one("open:a"), **bearer(token("ann")))).status == 200
            caller.send("GET /api/v1/stream/open:a", bearer(token("bob")))
            head = await caller.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            await caller.reader.readuntil(b"event: connected")
            await until(lambda: len(here) == 1)
            assert [client.identity.subject for client in app.clients()] == ["bob"]
        await until(lambda: gone == here)


# Limits


async def test_a_head_that_does_not_come_makes_room_in_a_full_server() -> None:
    app = open_application(max_connections=2)
    async with app.serve(port=0) as server, program(server) as slow, program(server) as other:
        for caller in (slow, other):
            assert (await caller.post(one("open:a"))).status == 200
            caller.writer.write(b"POST ")
        await asyncio.sleep(1.5)
        async with program(server) as third:
            assert (await third.post(one("open:a"))).status == 200


async def test_bodies_that_do_not_come_give_way_to_others() -> None:
    app = open_application(max_held_bytes=1 << 20, max_message=400_000)
    async with app.serve(port=0) as server, AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(program(server)) for _ in range(3)]
        for caller in callers:
            caller.send(f"POST {PUBLISH}", {**JSON, "Content-Length": "400000"}, b"[" + b" " * 390_000)
            await asyncio.sleep(0.2)
        response = await callers[0].hear()
        assert (response.status, response.body["code"]) == (503, "timeout"), response.body
        for caller in callers[1:]:
            caller.writer.write(b" " * 9_998 + b"]")
            assert (await caller.hear()).body == {"results": []}


async def test_calls_that_the_application_has_not_done_are_bounded() -> None:
    app, gate = Umbel(max_held_bytes=1 << 20, max_message=100_000, **CALLS), Gate()
    app.channel("slow:{x}", open=True, publish=gate)
    app.channel("open:{x}", open=True, publish=True)
    async with app.serve(port=0) as server, AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(program(server)) for _ in range(20)]
        # Each takes more than a megabyte in Python.
        calls = [asyncio.create_task(caller.post(one("slow:1", [1] * 20_000))) for caller in callers]
        await gate.begun.wait()
        async with program(server) as other:
            assert (await other.post(one("open:a"))).status == 200, "nobody is asked about it"
        await asyncio.sleep(0.3)
        assert gate.calls < 5
        gate.go_on.set()
        assert {(await call).status for call in calls} == {200}
        assert gate.calls == 20


async def test_errors_before_the_body_can_be_read_by_their_page() -> None:
    page = "https://app.example"
    async with open_application(origins=[page], max_message=1000).serve(port=0) as server:
        for headers, status in [
            ({**JSON, "Content-Length": "1001"}, 413),
            ({"Content-Type": "text/plain", "Content-Length": "2"}, 415),
        ]:
            async with program(server) as caller:
                caller.send(f"POST {PUBLISH}", {**headers, "Origin": page})
                response = await caller.hear()
                assert response.status == status
                assert response.headers["access-control-allow-origin"] == page


# Stops


@pytest.mark.parametrize("stage", ["reading", "running", "waiting"])
async def test_a_stop_says_that_the_call_may_come_again(stage: str) -> None:
    app, gate = Umbel(auth=secret(), drain=0.5, **CALLS), Gate()
    app.channel("open:{x}", open=True, publish=True)
    app.channel("slow:{x}", open=True, publish=gate)
    body = orjson.dumps(one("slow:a"))
    headers = {**JSON, "Content-Length": str(len(body)), **bearer(token("ann")), "Idempotency-Key": "k"}
    async with app.serve(port=0) as server, program(server) as first, program(server) as second:
        if stage != "reading":
            first.send(f"POST {PUBLISH}", headers, body)
            await gate.begun.wait()
        caller = first if stage == "running" else second
        if stage != "running":
            caller.send(f"POST {PUBLISH}", headers, body if stage == "waiting" else body[:9])
            await asyncio.sleep(0.2)
        stop = server.stop()
        response = await caller.hear()
        assert (response.status, response.body["code"], response.kept) == (503, "timeout", False)
        await stop


# What is left


async def test_calls_that_are_cut_leave_nothing() -> None:
    app = Umbel(**CALLS)
    app.channel("open:{x}", open=True, publish=True)

    @app.authenticate
    async def authenticate(request: Request) -> Identity:
        await asyncio.sleep(0.001)
        return Identity(request.headers.get("authorization") or "nobody")

    async def asked(client: Client, x: str, data: Any) -> bool:
        await asyncio.sleep(0.002)
        return True

    app.channel("asked:{x}", open=True, publish=asked)
    body = orjson.dumps([one("open:a"), one("asked:a")] * 3)
    async with app.serve(port=0) as server:

        async def cut(number: int) -> None:
            async with program(server) as caller:
                headers = {
                    **JSON,
                    "Content-Length": str(len(body)),
                    "Authorization": str(number % 7),
                    "Idempotency-Key": str(number % 11),
                }
                sent = body if number % 3 else body[: number % len(body)]
                caller.send(f"POST {PUBLISH}", headers, sent)
                if number % 2:
                    await asyncio.sleep(0.001 * (number % 5))
                caller.writer.transport.abort()

        for number in range(0, 1000, 50):
            await asyncio.gather(*(cut(number + more) for more in range(50)))
        await until(lambda: server.stats().connections == 0)
        assert server._dispatcher is not None
        slots = server._dispatcher._slots
        await until(lambda: not slots.by_number)
        async with program(server) as caller:
            response = await caller.post(one("open:b"), Authorization="0", Idempotency_Key="new")
            assert response.status == 200
        assert server.stats().panics == 0


@pytest.mark.parametrize("shards", [1, 2])
async def test_repetitions_on_all_shards_wait_and_may_be_cut(shards: int) -> None:
    app = Umbel(auth=secret(), shards=shards, **CALLS)
    gate = Gate()
    app.channel("slow:{x}", open=True, publish=gate)
    async with app.serve(port=0) as server:

        async def call() -> Any:
            async with program(server) as caller:
                return (await caller.post(one("slow:1"), **bearer(shown), Idempotency_Key="k")).body

        shown = token("ann")
        calls = [asyncio.create_task(call()) for _ in range(60)]
        await gate.begun.wait()
        await asyncio.sleep(0.3)
        for task in calls[::2]:
            task.cancel()
        await asyncio.sleep(0.3)
        gate.go_on.set()
        results = await asyncio.gather(*calls[1::2])
        assert {result["offset"] for result in results} == {1} and gate.calls == 1

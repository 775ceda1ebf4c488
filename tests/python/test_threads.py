"""Functions that block, in threads: nobody waits for them but their own client."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time

import pytest
from looping import on_loops
from umbel import Client, ConfigurationError, Message, Request, Umbel
from wire import wire

TRACE: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="")


@on_loops
async def test_a_function_that_blocks_holds_up_no_other_client(app: Umbel) -> None:
    release = threading.Event()

    @app.on("block", thread=True)
    def block(client: Client, message: Message) -> str:
        release.wait(10)
        client.send("from a thread")
        return threading.current_thread().name

    @app.on("quick")
    def quick(client: Client, message: Message) -> str:
        return threading.current_thread().name

    async with app.serve(port=0) as server, wire(server) as one, wire(server) as two:
        await one.say("block", id=1)
        await two.say("quick", id=2)
        assert (await two.hear("quick_result"))["data"] == threading.current_thread().name
        release.set()
        heard = {message["type"]: message for message in [await one.hear() for _ in range(3)]}
        assert heard["block_result"]["data"].startswith("umbel-function")
        assert heard["update"]["data"] == "from a thread"


@on_loops
async def test_all_that_decide_may_block(app: Umbel) -> None:
    @app.authenticate(thread=True)
    def who(request: Request) -> str:
        names.append(threading.current_thread().name)
        TRACE.set("authenticated")
        return "alice"

    def may_publish(client: Client, name: str, data: object) -> bool:
        names.append(threading.current_thread().name)
        return data == 1

    @app.channel("doc:{name}", publish=may_publish, thread=True)
    def may_read(client: Client, name: str) -> bool:
        names.append(threading.current_thread().name)
        assert TRACE.get() == "authenticated"
        return name == client.identity.subject

    names: list[str] = []
    async with app.serve(port=0) as server, wire(server) as client:
        await client.say("subscribe_updates", channels=["doc:alice", "doc:bob"])
        assert (await client.hear("subscription_established"))["channel"] == "doc:alice"
        assert (await client.hear("error"))["channel"] == "doc:bob"
        await client.say("publish", channel="doc:alice", data=1)
        assert (await client.hear("published"))["offset"] == 1
        await client.say("publish", channel="doc:alice", data=2)
        assert (await client.hear("error"))["code"] == "not_allowed"
    assert len(names) == 5
    assert all(name.startswith("umbel-function") for name in names)


@on_loops
async def test_a_thread_counts_until_it_has_ended_also_when_its_time_is_over(app: Umbel) -> None:
    release = threading.Event()
    begun: list[int] = []

    @app.on("block", thread=True)
    def block(client: Client, message: Message) -> None:
        begun.append(message.data)
        release.wait(10)

    async with (
        app.serve(port=0, handler_timeout=0.1, max_running=1, drain=2) as server,
        wire(server) as client,
    ):
        await client.say("block", id=1, data=1)
        await client.say("block", id=2, data=2)
        assert (await client.hear("error"))["code"] == "timeout"
        await asyncio.sleep(0.2)
        assert begun == [1], "its only place is taken"
        release.set()
        async with asyncio.timeout(5):
            while begun != [1, 2]:
                await asyncio.sleep(0.01)


@on_loops
async def test_there_are_no_more_threads_than_the_setting_says(app: Umbel) -> None:
    running, most = 0, 0
    lock = threading.Lock()

    @app.on("work", thread=True)
    def work(client: Client, message: Message) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    async with app.serve(port=0, max_threads=3) as server, wire(server) as client:
        for number in range(12):
            await client.say("work", id=number)
        for _ in range(12):
            await client.hear("work_result")
    assert most == 3


async def test_what_a_thread_raises_is_told_as_from_any_function(
    app: Umbel, caplog: pytest.LogCaptureFixture
) -> None:
    @app.on("fail", thread=True)
    def fail(client: Client, message: Message) -> None:
        raise LookupError("secret")

    async with app.serve(port=0) as server, wire(server) as client:
        await client.say("fail", id=1)
        error = await client.hear("error")
        assert error["code"] == "internal"
        assert "secret" not in str(error)
        assert "LookupError: secret" in caplog.text


async def test_a_thread_may_raise_anything(app: Umbel) -> None:
    @app.on("next", thread=True)
    def nothing_left(client: Client, message: Message) -> None:
        next(iter(()))

    async with app.serve(port=0, max_running=1) as server, wire(server) as client:
        for number in range(3):
            await client.say("next", id=number)
            assert (await client.hear("error"))["code"] == "internal"


@on_loops
async def test_a_call_that_waits_for_a_thread_is_not_made_once_its_time_is_over(app: Umbel) -> None:
    release = threading.Event()
    begun: list[int] = []

    @app.on("block", thread=True)
    def block(client: Client, message: Message) -> str:
        begun.append(message.data)
        release.wait(10)
        return "done"

    async with app.serve(port=0, max_threads=1, handler_timeout=0.2) as server, wire(server) as client:
        for number in (1, 2):
            await client.say("block", id=number, data=number)
            assert (await client.hear("error"))["code"] == "timeout"
        release.set()
        await client.say("block", id=3, data=3)
        assert (await client.hear("block_result"))["id"] == 3
        assert begun == [1, 3]


@on_loops
async def test_calls_that_wait_for_a_thread_are_not_made_when_the_server_has_stopped(app: Umbel) -> None:
    release = threading.Event()
    begun: list[int] = []

    @app.on("block", thread=True)
    def block(client: Client, message: Message) -> None:
        begun.append(message.data)
        release.wait(20)

    async with app.serve(port=0, max_threads=1, drain=0.2) as server, wire(server) as client:
        for number in range(5):
            await client.say("block", data=number)
        while not begun:
            await asyncio.sleep(0.01)
    assert [thread.daemon for thread in threading.enumerate() if "umbel-function" in thread.name] == [True]
    release.set()
    while any("umbel-function" in thread.name for thread in threading.enumerate()):
        await asyncio.sleep(0.01)
    assert begun == [0]


def test_a_coroutine_function_is_not_called_in_a_thread(app: Umbel) -> None:
    with pytest.raises(ConfigurationError, match="is async def and can't be the handler of 'x'"):

        @app.on("x", thread=True)
        async def handler(client: Client, message: Message) -> None: ...

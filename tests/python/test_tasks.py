"""A coroutine of the application runs in a task of its own, whether or not it waits."""

import asyncio
import threading
import weakref
from contextvars import ContextVar

import orjson
import pytest
from hostile import TEXT, Peer, frame
from looping import on_loops, virtual

waits = pytest.mark.parametrize("waits", [False, True])


@waits
def test_each_call_has_a_task_of_its_own_which_ends_with_it(app, bench, waits):
    tasks = []

    @app.on("who")
    async def who(client, message):
        if waits:
            await asyncio.sleep(0)
        tasks.append(asyncio.current_task())
        return tasks[-1] in asyncio.all_tasks()

    @virtual
    async def scenario():
        outside = asyncio.current_task()
        umbel = bench()
        umbel.core.open()
        for number in range(40):
            umbel.core.message(1, "who", id=number)
        await umbel.run()
        assert [(reply["id"], reply["data"]) for reply in umbel.replies] == [(n, True) for n in range(40)]
        assert len(set(tasks)) == 40
        assert outside not in tasks
        assert all(task.done() for task in tasks)
        assert asyncio.current_task() is outside
        assert umbel.tasks() == 0
        gone = [weakref.ref(task) for task in tasks]
        tasks.clear()
        assert not any(reference() for reference in gone)

    scenario()


@waits
def test_timeouts_groups_and_cancellation_work(app, bench, waits):
    @app.on("timeout")
    async def timeout(client, message):
        if waits:
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(2)
        except TimeoutError:
            return "timed out"

    @app.on("group")
    async def group(client, message):
        async def double(number):
            await asyncio.sleep(0.1)
            return 2 * number

        if waits:
            await asyncio.sleep(0)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(double(number)) for number in (1, 2)]
        return [task.result() for task in tasks]

    @app.on("cancel")
    async def cancel(client, message):
        if waits:
            await asyncio.sleep(0)
        asyncio.current_task().cancel()
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            return asyncio.current_task().cancelling()

    @virtual
    async def scenario():
        umbel = bench()
        umbel.core.open()
        for kind in ("timeout", "group", "cancel"):
            umbel.core.message(1, kind, id=kind)
        await umbel.run()
        await asyncio.sleep(3)
        answers = {reply["id"]: reply["data"] for reply in umbel.replies}
        assert answers == {"timeout": "timed out", "group": [2, 4], "cancel": 1}

    scenario()


@waits
def test_nobody_sees_the_context_variables_of_another_call(app, bench, waits):
    seen = ContextVar("seen", default=0)

    @app.on("count")
    async def count(client, message):
        if waits:
            await asyncio.sleep(0)
        seen.set(seen.get() + 1)
        await asyncio.create_task(asyncio.sleep(0))
        return seen.get()

    @virtual
    async def scenario():
        umbel = bench()
        umbel.core.open()
        for number in range(3):
            umbel.core.message(1, "count", id=number)
        await umbel.run()
        assert [reply["data"] for reply in umbel.replies] == [1, 1, 1]
        assert seen.get() == 0

    scenario()


@virtual
async def test_a_long_row_of_messages_is_answered_in_order_whatever_waits(app, bench):
    """Those that do not wait are not started from within each other, however many there are."""

    @app.on("some")
    async def some(client, message):
        if message.data % 50 == 0:
            await asyncio.sleep(1)
        return message.data

    umbel = bench(max_running=1)
    umbel.core.open()
    for number in range(1, 3000):
        umbel.core.message(1, "some", id=number, data=number)
    await umbel.run()
    await asyncio.sleep(60)
    assert [reply["data"] for reply in umbel.replies] == list(range(1, 3000))


@virtual
async def test_a_function_that_waits_is_bound_by_its_time_and_by_max_running(app, bench):
    running = 0
    most = 0

    @app.on("slow")
    async def slow(client, message):
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(message.data)
        finally:
            running -= 1

    umbel = bench(max_running=4, handler_timeout=5)
    umbel.core.open()
    for number in range(8):
        umbel.core.message(1, "slow", id=number, data=1 if number else 100)
    await umbel.run()
    await asyncio.sleep(10)
    outcomes = {reply["id"]: reply.get("code") for reply in umbel.replies}
    assert outcomes == {0: "timeout"} | dict.fromkeys(range(1, 8))
    assert (most, running) == (4, 0)


@waits
def test_a_function_that_raises_generatorexit_has_failed_like_any_other(app, bench, caplog, waits):
    """It is not what Python raises in a coroutine that is closed with its loop."""

    @app.on("exit")
    async def leave(client, message):
        if waits:
            await asyncio.sleep(0)
        raise GeneratorExit

    @app.on("echo")
    async def echo(client, message):
        return message.data

    @virtual
    async def scenario():
        umbel = bench(max_running=1)
        umbel.core.open()
        umbel.core.message(1, "exit", id=1)
        umbel.core.message(1, "echo", id=2, data="next")
        await umbel.run()
        failed, answered = umbel.replies
        assert (failed["id"], failed["code"]) == (1, "internal")
        assert (answered["id"], answered["data"]) == (2, "next")
        assert "handler of 'exit' failed" in caplog.text

    scenario()


@on_loops
async def test_an_answer_does_not_wait_for_another_function_that_blocks(app):
    heard = threading.Event()

    @app.on("fast")
    def fast(client, message):
        return message.data

    @app.on("block")
    def block(client, message):
        return heard.wait(5)

    def converse(server):
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        with Peer((host, int(port))) as peer:
            peer.upgrade()
            kinds = ["fast"] * 3 + ["block", "fast"]
            messages = [{"type": kind, "id": number, "data": 1} for number, kind in enumerate(kinds)]
            peer.send(b"".join(frame(TEXT, orjson.dumps(message)) for message in messages))
            assert [peer.read_json("fast_result")["data"] for _ in range(3)] == [1, 1, 1]
            heard.set()
            return peer.read_json("block_result")["data"]

    async with app.serve(port=0) as server:
        assert await asyncio.to_thread(converse, server), "the answers came when the function had ended"

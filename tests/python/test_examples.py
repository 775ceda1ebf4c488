"""The examples are programs that work, and the README shows one of them."""

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from coming_back import begun
from programs import started
from umbel import client
from websockets.asyncio.client import connect
from wire import Wire

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def at(url: str, path: str) -> str:
    return url.replace("http", "ws", 1) + path


async def greeted(connection) -> Wire:
    it = Wire(connection)
    it.greeting = await it.hear("connection_established")
    return it


@pytest.mark.parametrize("path", ["/", "/ws", "/any/path?q=1", "/healthz/x"])
def test_echo_gives_every_message_back_on_every_path(path):
    async def scenario(url):
        async with connect(at(url, path), proxy=None, max_size=None) as connection:
            assert "permessage-deflate" in connection.response.headers["Sec-WebSocket-Extensions"]
            for message in ("text ä", b"\0binary", "", b"", "x" * (16 << 20)):
                await connection.send(message)
                assert await connection.recv() == message

    with started(str(EXAMPLES / "echo.py"), "--port", "0") as program:
        asyncio.run(scenario(program.url))
        assert program.stop(signal.SIGTERM) == 0


def test_fanout_lets_everybody_subscribe_and_publish_on_any_channel():
    async def scenario(url):
        async with connect(at(url, "/ws"), proxy=None) as one, connect(at(url, "/ws"), proxy=None) as two:
            reader, writer = await greeted(one), await greeted(two)
            await reader.say("subscribe_updates", channel="any:thing at all")
            await reader.hear("subscription_established")
            await writer.say("publish", channel="any:thing at all", data={"n": 1}, id=1)
            assert (await writer.hear("published"))["offset"] == 1
            assert (await reader.hear("update"))["data"] == {"n": 1}

    options = ("--port", "0", "--shards", "2", "--tick", "0.005", "--host", "127.0.0.1")
    with started(str(EXAMPLES / "fanout.py"), *options) as program:
        asyncio.run(scenario(program.url))
        assert program.stop() == 0


def test_chat_has_two_rooms():
    async def scenario(url):
        async with connect(at(url, "/ws"), proxy=None) as connection:
            client = await greeted(connection)
            await client.say("subscribe_updates", channel="room:cellar")
            assert (await client.hear("error"))["code"] == "not_allowed"
            await client.say("subscribe_updates", channel="room:lobby")
            await client.hear("subscription_established")
            await client.say("publish", channel="room:lobby", data="hi")
            assert (await client.hear("update"))["data"] == "hi"

    with started("-m", "umbel", "run", "chat:app", "--port", "0", cwd=EXAMPLES) as program:
        asyncio.run(scenario(program.url))
        assert program.stop() == 0


@pytest.mark.parametrize(
    ("names", "most"),
    [(["chatroom.py", "chatroom.html"], 60), (["board.py", "board.html"], 60), (["answer.html"], 30)],
)
def test_pages_are_short(names, most):
    # What they do is tested in Chromium: tests/browser/client.mjs.
    assert sum(len((EXAMPLES / name).read_text().splitlines()) for name in names) <= most


def test_a_board_puts_changes_together_that_were_made_at_the_same_time():
    async def scenario(url):
        told = []
        async with (
            client.connect(url, token="ann") as ann,
            client.connect(url, token="bob") as bob,
            ann.shared_state("board:1", event="task_update") as hers,
            bob.shared_state("board:1", on_conflict=lambda *what: told.append(what[1:])) as his,
            begun(SimpleNamespace(url=url), token="cleo") as late,
        ):
            await hers.set("t1", {"update": {"title": "tea", "done": False}})
            async with asyncio.timeout(10):
                while "taskId" not in hers["t1"]:  # what the server has made of it
                    await asyncio.sleep(0.01)
            seen = await hers.set("t1", {"update": {"title": "tea", "done": True}})
            await late.say(
                "state_set",
                channel="board:1",
                key="t1",
                data={"update": {"title": "coffee", "done": False}},
                ifVersion=seen.offset - 1,
                epoch=seen.epoch,
            )
            assert (await late.hear("published"))["resolved"] is True
            async with asyncio.timeout(10):
                while not told:
                    await asyncio.sleep(0.01)
            assert his["t1"]["update"] == {"title": "coffee", "done": True}
            assert his["t1"]["taskId"] == "t1"
            ((key, conflict),) = told
            assert (key, conflict["resolution"]) == ("t1", "merge")
            assert {one["field"] for one in conflict["conflictedChanges"]} == {"update", "timestamp"}
            here = bob.shared_state("$presence:board:1")
            await here.ready()
            async with asyncio.timeout(10):
                while not {member["subject"] for member in here.values()} >= {"ann", "bob"}:
                    await asyncio.sleep(0.01)
            with pytest.raises(client.RequestFailed):
                await his.patch("t1", {"update": None})

    with started("-m", "umbel", "run", "board:app", "--port", "0", cwd=EXAMPLES) as program:
        asyncio.run(scenario(program.url))
        assert program.stop() == 0


def test_worker_goes_on_where_it_was(tmp_path):
    place = tmp_path / "position.json"

    async def scenario(url):
        async with client.connect(url) as umbel:
            results = umbel.subscribe("results")
            await results.ready()
            for words in (["one", "three"], ["five", "seven"]):
                with started(str(EXAMPLES / "worker.py"), url, "--position", str(place)) as worker:
                    if not place.exists():
                        while await umbel.publish("jobs", "warm up"):
                            with contextlib.suppress(TimeoutError):
                                await asyncio.wait_for(anext(results), 0.2)
                                break
                    for word in words:
                        last = await umbel.publish("jobs", word)
                    done = []
                    while len(done) < 2:
                        result = (await asyncio.wait_for(anext(results), 10))["data"]
                        if result["job"] != "warm up":
                            done.append(result)
                    assert done == [{"job": word, "letters": len(word)} for word in words]
                    while json.loads(place.read_text())[1] < last.offset:
                        await asyncio.sleep(0.01)
                    assert await asyncio.to_thread(worker.stop, signal.SIGINT) == 0

    with started(str(EXAMPLES / "fanout.py"), "--port", "0") as program:
        asyncio.run(scenario(program.url))
        assert program.stop() == 0


def test_the_smallest_server_is_under_ten_lines():
    lines = [line for line in (EXAMPLES / "chat.py").read_text().splitlines() if line.strip()]
    assert len(lines) <= 12  # the docstring and the main guard included
    assert sys.version_info >= (3, 11)

"""``umbel.load`` against servers that are not Umbel."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from test_load import QUICK, loaded
from umbel.load import LoadConfig, LoadError, LoadResults
from websockets.asyncio.server import ServerConnection, broadcast, serve

MARKER = '"t":{time},"s":{seq}'
PUBLISH = '{"all":1,"t":{time},"s":{seq},"by":{n},"pad":"{pad}"}'

Passing = Callable[[int, str], list[str]]
"""What readers get of the publication with this number."""


@asynccontextmanager
async def room(passing: Passing = lambda number, text: [text]) -> AsyncIterator[str]:
    """A server that asks who somebody is, lets in who answers, and sends them what the others say."""
    joined: set[ServerConnection] = set()
    count = 0

    async def serving(connection: ServerConnection) -> None:
        nonlocal count
        await connection.send("who?")
        async for text in connection:
            assert isinstance(text, str)
            if text.startswith("hello "):
                await connection.send(f"you are {text[6:]}?")
            elif text == "yes":
                joined.add(connection)
            else:
                count += 1
                for each in passing(count, text):
                    broadcast(joined, each)

    async with serve(serving, "127.0.0.1", 0, compression=None) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def heard(target: str, **values: Any) -> LoadResults:
    words = {"marker": MARKER, "publish": PUBLISH, "hello": "hello {n}", "answers": {"you are": "yes"}}
    return await loaded(target, **(words | values))


async def test_what_other_servers_pass_on_is_counted_timed_and_judged_by_its_numbers() -> None:
    async with room() as target:
        found = await heard(target, publishers=3, data_bytes=200)
    assert (found.faults, found.lost, found.success_rate, found.error_rate) == ({}, 0, 1.0, 0.0)
    assert found.messages == found.published * 20 > 0
    assert found.confirmed is None
    assert found.latency is not None and 0 < found.latency.p50 <= found.latency.max
    assert found.bytes_per_second / found.frames_per_second == pytest.approx(200, abs=10)


def every_fifth(instead: Callable[[str], list[str]]) -> Passing:
    return lambda number, text: instead(text) if number % 5 == 0 else [text]


async def test_what_other_servers_lose_or_repeat_is_found() -> None:
    async with room(every_fifth(lambda text: [])) as target:
        losing = await heard(target)
    async with room(every_fifth(lambda text: [text, text])) as target:
        repeating = await heard(target)
    kept: list[str] = []

    def late(number: int, text: str) -> list[str]:
        if number % 5 == 0:
            kept.append(text)
            return []
        return [text, kept.pop()] if kept else [text]

    async with room(late) as target:
        shuffling = await heard(target)
    assert losing.faults == {} and losing.lost >= losing.published // 5 * 20 - 20
    assert losing.success_rate is not None and 0.75 < losing.success_rate < 0.9
    assert repeating.faults == {"updates repeated": repeating.published // 5 * 20}
    assert list(shuffling.faults) == ["updates in a wrong order"]


async def test_several_publications_in_one_message_count_each() -> None:
    kept: list[str] = []

    def together(number: int, text: str) -> list[str]:
        kept.append(text)
        if number % 2:
            return []
        both = f"[{','.join(kept)}]"
        kept.clear()
        return [both]

    async with room(together) as target:
        found = await heard(target)
    assert found.faults == {} and found.lost == 0
    assert found.messages == found.published // 2 * 2 * 20


async def test_a_marker_that_never_comes_is_said_with_what_came_instead() -> None:
    async with room() as target:
        with pytest.raises(
            LoadError, match=r'marker "time=\{time\}" was in no message.*the last .* is \{"all"'
        ):
            await heard(target, marker="time={time}")
        with pytest.raises(LoadError, match="no message came"):
            await heard(target, answers={"who?": "nobody"}, hello=None, publishers=1, publish="{time} {seq}")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"hello": "hi"}, "marker is missing"),
        ({"marker": "t={time}", "scenario": "storm"}, "storm needs Umbel"),
        ({"marker": "t={time}", "channels": 2}, "channels"),
        ({"marker": "t={time} s={seq}", "publish": "t={time}"}, "publish lacks {seq}"),
    ],
)
def test_words_that_do_not_fit_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LoadConfig(**({"target": "ws://127.0.0.1:8000/"} | QUICK | values))

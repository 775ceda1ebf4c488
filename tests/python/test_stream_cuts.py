"""Event streams that are cut anywhere: nothing is lost without a word, and nothing comes twice."""

from __future__ import annotations

import asyncio
import codecs
import os
import random
import re
from collections import Counter

import pytest
from stream_judge import Judge
from streams import PATH, Parser, request_of
from umbel import Server, Umbel

CHANNELS = ("a", "b", "c")


class Body:
    """Takes chunks apart that come in any parts. Without chunks, the body is what comes."""

    def __init__(self, chunked: bool) -> None:
        self._chunked, self._rest = chunked, b""

    def feed(self, data: bytes) -> bytes:
        """The bytes of the body that can be read now."""
        if not self._chunked:
            return data
        self._rest += data
        body = b""
        while found := re.match(rb"([0-9a-f]+)\r\n", self._rest):
            length, start = int(found[1], 16), found.end()
            if len(self._rest) < start + length + 2:
                break
            assert self._rest[start + length : start + length + 2] == b"\r\n"
            body, self._rest = body + self._rest[start : start + length], self._rest[start + length + 2 :]
        return body


async def read_some(
    server: Server, channels: list[str], last: str, random: random.Random, judge: Judge, new: set[str]
) -> str:
    """One connection, up to some byte. Returns the last id that was whole."""
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    query = "&".join(f"channel={channel}" for channel in channels)
    headers = {}
    if random.random() < 0.3:
        query += f"&after={last}"
    elif last:
        headers["Last-Event-ID"] = last
    version = random.choice(["1.1", "1.0"])
    writer.write(request_of(f"{PATH}?{query}", headers, version=version))
    wanted = random.choice([0, 100, 600, 3000, 30_000]) + random.randrange(400)
    body, parser, head, taken = Body(version == "1.1"), Parser(last_id=last), b"", 0
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        async with asyncio.timeout(0.2):
            while b"\r\n\r\n" not in head:
                head += await reader.read(1)
            while taken < wanted and (part := await reader.read(min(4096, wanted - taken))):
                taken += len(part)
                for event in parser.feed(decoder.decode(body.feed(part))):
                    judge.hear(event, new)
    except TimeoutError:
        pass
    writer.transport.abort()
    return parser.last_id


CUTS = int(os.environ.get("STREAM_CUTS", "200"))
"""Of all streams of both tests. `make soak` has more."""


@pytest.mark.timeout(60 + CUTS)
@pytest.mark.parametrize("history", [1000, 20])
async def test_streams_that_are_cut_anywhere_join_to_what_was_published(app: Umbel, history: int) -> None:
    app.channel("{name}", open=True, history=history)
    published: dict[str, list[bytes]] = {channel: [] for channel in CHANNELS}
    judges = [Judge(published) for _ in range(4)]
    seed = 7

    def publish_some(choice: random.Random, count: int) -> None:
        for _ in range(count):
            channel = choice.choice(CHANNELS)
            text = choice.choice(["é", "\\", "data: x\n\n", "id: 1\r\n", "\0"]) * choice.randrange(1, 90)
            published[channel].append(text.encode())
            app.publish(channel, text)

    async def publish() -> None:
        choice = random.Random(seed)
        while True:
            publish_some(choice, choice.randrange(20))
            await asyncio.sleep(choice.choice([0, 0.002, 0.01]))

    async def follow(judge: Judge, number: int, cuts: int) -> None:
        choice = random.Random(seed * 100 + number)
        channels, last, known = list(CHANNELS), "", set[str]()
        for _ in range(cuts):
            choice.shuffle(channels)
            named = channels[: choice.choice([1, 2, 3, 3])]
            if choice.random() < 0.1:
                publish_some(choice, 100)  # more than the shorter history keeps
            new = set(named) - known
            # What is not on a stream is forgotten with its next id: a client that wants it again begins anew.
            begun = await read_some(server, named, last, choice, judge, new)
            if begun != last:
                known, last = set(named), begun
                judge.at = {channel: at for channel, at in judge.at.items() if channel in known}

    async with app.serve(port=0, tick=0.004, burst_bytes=0) as server:
        publishing = asyncio.create_task(publish())
        await asyncio.gather(*(follow(judge, number, CUTS // 8) for number, judge in enumerate(judges)))
        publishing.cancel()
    seen = sum((judge.seen for judge in judges), Counter[str]())
    assert seen["recovered True"] >= CUTS // 8 and seen["update"] >= 400, seen
    assert seen["trimmed"] if history == 20 else not seen["trimmed"], seen

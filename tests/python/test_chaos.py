"""Many clients on a network that is cut all the time, while the server is started anew now and then.

Each client's stream is compared with what was published, position by position, and each request with what the
application did. ``CHAOS_SEED`` repeats the choices of a run. ``CHAOS_CLIENTS``, ``CHAOS_CHANNELS``,
``CHAOS_CUTS`` and ``CHAOS_SECONDS`` make it larger: it ends when there were so many cuts, and not before so
many seconds.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import pytest
from breaking import Network, breaking
from umbel import Client, Message, Run, Umbel
from umbel.client import Connection, Limits, RequestFailed, connect

CLIENTS: Final = int(os.environ.get("CHAOS_CLIENTS", "20"))
CHANNELS: Final = int(os.environ.get("CHAOS_CHANNELS", "5"))
CUTS: Final = int(os.environ.get("CHAOS_CUTS", "200"))
SECONDS: Final = float(os.environ.get("CHAOS_SECONDS", "0"))
SEED: Final = int(os.environ.get("CHAOS_SEED", time.time_ns() % 1_000_000))

FAST: Final = Limits(
    base=0.02,
    cap=0.2,
    useful=0.1,
    attempts=1000,
    attempts_in=1,
    attempt_timeout=2,
    answer_timeout=0.5,
    buffer=16 << 10,
)
SHORT: Final = "short:0"
"""A channel whose history is shorter than what is published while a client is away."""


class Service:
    """The server's side: what was published where, and what was done."""

    def __init__(self) -> None:
        self.app = Umbel(heartbeat=1, reconnect_window=0.05, shards=2)
        self.published: dict[tuple[str, str], list[Any]] = {}
        self.done: Counter[str] = Counter()
        self.answers: dict[str, Any] = {}
        self.up = self.over = False
        self.app.channel("room:{x}", open=True)
        self.app.channel("short:{x}", open=True, history=3)
        self.app.on("say")(self.say)
        self.app.stream("recite")(self.recite)

    def publish(self, channel: str, data: Any) -> int:
        position = self.app.publish(channel, data).position
        assert position is not None
        log = self.published.setdefault((channel, position.epoch), [])
        log.append(data)
        assert len(log) == position.offset
        return position.offset

    async def say(self, client: Client, message: Message) -> int:
        """Do something once."""
        self.done[message.data["text"]] += 1
        await asyncio.sleep(0.02)
        return self.answers.setdefault(
            message.data["text"], self.publish(message.data["channel"], message.data)
        )

    async def recite(self, run: Run, message: Message) -> AsyncIterator[str]:
        for number in range(20):
            await asyncio.sleep(0.05)
            yield f"{message.data} {number}\n"

    @asynccontextmanager
    async def served(self) -> AsyncIterator[int]:
        async with self.app.serve(port=0, drain=1) as server:
            self.up = True
            try:
                yield int(server.url.rsplit(":", 1)[1])
            finally:
                self.up = False


class Reader:
    """Reads a channel, and compares it with what was published."""

    def __init__(self, service: Service, channel: str, slow: bool) -> None:
        self.service, self.channel, self.slow = service, channel, slow
        self.epoch, self.offset = "", 0
        self.gaps: Counter[str] = Counter()
        self.read = 0

    async def follow(self, umbel: Connection) -> None:
        updates = umbel.subscribe(self.channel)
        position = await updates.ready()
        self.epoch, self.offset = position.epoch, position.offset
        async for update in updates:
            if "gap" in update:
                self.missed(dict(update["gap"]))
                continue
            assert update["offset"] == self.offset + 1, f"{self.channel}: once and in order"
            log = self.service.published[self.channel, self.epoch]
            assert update["data"] == log[self.offset]
            self.offset += 1
            self.read += 1
            assert updates.position is not None
            assert (updates.position.epoch, updates.position.offset) == (self.epoch, self.offset)
            if self.slow and not self.service.over:
                await asyncio.sleep(0.5 if self.read % 50 == 0 else 0.02)

    def missed(self, gap: dict[str, Any]) -> None:
        self.gaps[gap["reason"]] += 1
        if gap["epoch"] == self.epoch:
            assert self.channel == SHORT, f"nothing was lost in {self.channel}: {gap}"
            assert (
                gap["from"]
                == self.offset
                < gap["to"]
                <= len(self.service.published[self.channel, self.epoch])
            )
        else:
            assert gap["reason"] == "epoch", gap
        self.epoch, self.offset = gap["epoch"], gap["to"]

    def caught_up(self) -> bool:
        newest = [epoch for channel, epoch in self.service.published if channel == self.channel][-1]
        return self.epoch == newest and self.offset == len(self.service.published[self.channel, newest])


class Asking:
    """Makes requests and runs, and notes what became of each."""

    def __init__(self, name: str, dice: random.Random, channels: list[str]) -> None:
        self.name, self.dice, self.channels = name, dice, channels
        self.outcomes: dict[str, tuple[str, Any]] = {}
        self.runs: Counter[str] = Counter()
        self.enough = False

    async def ask(self, umbel: Connection) -> None:
        number = 0
        while not self.enough:
            number += 1
            text = f"{self.name} {number}"
            try:
                data = {"text": text, "channel": self.dice.choice(self.channels)}
                self.outcomes[text] = ("done", await umbel.request("say", data))
            except RequestFailed as error:
                self.outcomes[text] = (error.code, None)
            await asyncio.sleep(self.dice.random() * 0.1)

    async def listen(self, umbel: Connection) -> None:
        while not self.enough:
            run = umbel.run("recite", self.name)
            try:
                text = "".join([piece async for piece in run])
            except RequestFailed as error:
                self.runs[error.code] += 1
                continue
            finally:
                await asyncio.sleep(0.05)
            whole = "".join(f"{self.name} {number}\n" for number in range(20))
            assert text == whole if run.status == "complete" else whole.startswith(text)
            self.runs[run.status] += 1


async def disturb(service: Service, network: Network, dice: random.Random, rooms: list[str]) -> None:
    """Publish, and cut one connection after the other."""
    began, number = time.monotonic(), 0
    while network.cuts < CUTS or time.monotonic() - began < SECONDS:
        number += 1
        if service.up:
            service.publish(dice.choice(rooms), number)
        if dice.random() < 0.2:
            network.cut()
        await asyncio.sleep(0.005)


@pytest.mark.timeout(120 + 2 * SECONDS + CUTS / 2)
async def test_every_client_gets_everything_once_and_in_order(caplog: pytest.LogCaptureFixture) -> None:
    print(f"CHAOS_SEED={SEED}")  # shown when the test fails
    dice = random.Random(SEED)
    service = Service()
    rooms = [*(f"room:{n}" for n in range(CHANNELS)), SHORT]
    readers = [
        [Reader(service, channel, slow=dice.random() < 0.2) for channel in rooms] for _ in range(CLIENTS)
    ]
    asking = [Asking(f"client {n}", random.Random(SEED + n), rooms) for n in range(CLIENTS)]
    async with AsyncExitStack() as life:
        serving = await life.enter_async_context(AsyncExitStack())
        port = await serving.enter_async_context(service.served())
        url, network = await life.enter_async_context(breaking(port, SEED, early=0.2))
        tasks: list[asyncio.Task[None]] = []
        clients = [await life.enter_async_context(connect(url, limits=FAST)) for _ in range(CLIENTS)]
        for umbel, its_readers, its_asking in zip(clients, readers, asking, strict=True):
            tasks += [asyncio.create_task(it.follow(umbel)) for it in its_readers]
            tasks += [
                asyncio.create_task(its_asking.ask(umbel)),
                asyncio.create_task(its_asking.listen(umbel)),
            ]
        disturbing = asyncio.create_task(disturb(service, network, dice, rooms))
        restarts = 0
        while not disturbing.done():
            await asyncio.wait(
                [disturbing, *tasks], timeout=3 + dice.random() * 2, return_when="FIRST_EXCEPTION"
            )
            failed = [task for task in tasks if task.done() and task.exception()]
            assert not failed, failed
            if not disturbing.done():
                await serving.aclose()
                network.port = await serving.enter_async_context(service.served())
                restarts += 1
        await disturbing
        network.heal()
        service.over = True
        for it in asking:
            it.enough = True
        for channel in rooms:
            service.publish(channel, "the last one")
        async with asyncio.timeout(30):
            while not all(reader.caught_up() for its in readers for reader in its):
                await asyncio.sleep(0.05)
                assert not [task for task in tasks if task.done() and task.exception()]
        await asyncio.wait([task for task in tasks if "follow" not in str(task.get_coro())], timeout=30)
        judge(service, asking)
    for task in tasks:
        await task  # the readers' loops end with the blocks
    gaps = sum((reader.gaps for its in readers for reader in its), Counter())
    print(f"{network.cuts} cuts, {restarts} restarts, {sum(service.done.values())} requests, gaps: {gaps}")
    print(f"outcomes: {Counter(code for it in asking for code, _ in it.outcomes.values())}")
    print(f"runs: {sum((it.runs for it in asking), Counter())}")
    assert network.cuts >= CUTS
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not [
        record for record in caplog.records if record.name == "umbel.client" and "defect" in record.message
    ]


def judge(service: Service, asking: list[Asking]) -> None:
    """Every request was done once, or nobody knows whether it was done at most once."""
    assert max(service.done.values()) == 1
    for it in asking:
        for text, (outcome, value) in it.outcomes.items():
            if outcome == "done":
                assert value == service.answers[text]
            else:
                assert outcome == "outcome_unknown", outcome

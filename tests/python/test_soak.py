"""Mixed traffic with random faults: readers that do well lose nothing, and nobody leaves anything behind.

``SOAK_SECONDS`` says for how long, ``SOAK_SEED`` repeats the choices of a run; `make soak` takes ten minutes.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import astuple, dataclass
from typing import Any, Final

import pytest
from hostile import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    Answering,
    Ended,
    Ledger,
    Peer,
    Subscriber,
    deflated,
    frame,
    handshake,
)
from serving import Server, running, served, wait_until

SECONDS: Final = float(os.environ.get("SOAK_SECONDS", "6"))
SEED: Final = int(os.environ.get("SOAK_SEED", time.time_ns() % 1_000_000))

pytestmark = pytest.mark.timeout(2 * SECONDS + 120)

KIB = 1 << 10
MIB = 1 << 20

PATIENT: Final = 60.0
"""Seconds that readers may take for the rest, and the server to come to rest, on a busy machine."""

GROWTH: Final = 8 * MIB
"""Bytes by which the process may grow after the first third: allocators, and how full the logs are."""

CHANNELS: Final = ("news", "feed", "latest:prices")

MALFORMED: Final = (
    frame(TEXT, b"x", mask=None),
    frame(TEXT, b"x", rsv=2),
    frame(TEXT, b"x", rsv=4),
    frame(3),
    frame(PING, fin=False),
    frame(CONTINUATION, b"x"),
    frame(TEXT, declare=1 << 63),
)


@dataclass(frozen=True)
class Rest:
    """What a server holds when nobody but the test is connected."""

    connections: int
    subscriptions: int
    tasks: int
    descriptors: int
    threads: int


class Soak:
    """A server under test, and threads of clients that run until they are told to stop."""

    def __init__(self, server: Server, asking: Subscriber) -> None:
        self.server = server
        self.errors: list[str] = []
        self.done: Counter[str] = Counter()
        self._numbers = itertools.count()
        self._asking = asking

    def count(self) -> dict[str, int]:
        """What the server counts."""
        self._asking.send_json({"type": "count"})
        counted: dict[str, int] = self._asking.read_json("count_result")["data"]
        return counted

    def first_rest(self) -> Rest:
        """What is there when every shard has served somebody: they start one after the other."""
        for peer in [Peer(self.server.address) for _ in range(8)]:
            with peer:
                peer.upgrade()
        wait_until(lambda: self.count()["connections"] == 1, "all but one are gone")
        return self.rest()

    def rest(self) -> Rest:
        counted = self.count()
        threads = len(os.listdir(f"/proc/{self.server.pid}/task"))
        return Rest(
            counted["connections"],
            counted["subscriptions"],
            counted["tasks"],
            self.server.descriptors(),
            threads,
        )

    def wait_rest(self, rest: Rest) -> None:
        """Wait until nothing is left of those who were there."""
        seen = []

        def is_back() -> bool:
            seen.append(self.rest())
            return all(now <= then for now, then in zip(astuple(seen[-1]), astuple(rest), strict=True))

        try:
            wait_until(is_back, "the server is at rest", PATIENT)
        except AssertionError as error:
            raise AssertionError(f"{seen[-1]} should be {rest}") from error

    def run(self, seconds: float) -> None:
        """Let all kinds of clients loose for so long. In the end every reader has everything, or was told."""
        self.ledger = Ledger()
        stop, over = threading.Event(), threading.Event()
        readers = [self._start(self._read, over, deflate) for deflate in (False, True)]
        others = [self._start(self._publish, stop) for _ in range(2)]
        others += [self._start(self._misbehave, stop) for _ in range(4)]
        end = time.monotonic() + seconds
        wait_until(lambda: self.troubled() or time.monotonic() > end, "the time is over", seconds + 5)
        stop.set()
        self._join(others)
        over.set()
        for channel in CHANNELS:
            self._asking.publish(channel, "wakes readers that wait for more")
        self._join(readers)
        assert not self.errors, "\n".join(self.errors)
        difference = self.ledger.first_difference()
        assert difference is None, difference

    def troubled(self) -> bool:
        return bool(self.errors) or self.count()["panics"] > 0

    def _join(self, threads: list[threading.Thread]) -> None:
        for thread in threads:
            thread.join(PATIENT)
            assert not thread.is_alive(), f"{thread.name} hangs"

    def _start(self, role: Callable[..., None], *arguments: object) -> threading.Thread:
        number = next(self._numbers)
        rng = random.Random(f"{SEED} {number}")

        def guarded() -> None:
            try:
                role(f"{role.__name__} {number}", rng, *arguments)
            except BaseException:
                self.errors.append(traceback.format_exc())

        thread = threading.Thread(target=guarded, name=role.__name__, daemon=True)
        thread.start()
        return thread

    # ------------------------------------------------------------------------------------------------- roles

    def _read(self, name: str, rng: random.Random, over: threading.Event, deflate: bool) -> None:
        """Read all channels for the whole time, and then the rest."""
        with Answering(self.server.address, CHANNELS, self.ledger, name, deflate=deflate) as reader:
            while not over.is_set():
                if reader.readable(0.05):
                    reader.apply(reader.read_json())
            for channel in CHANNELS:
                reader.read_until(channel, max(self.ledger.publications.get(channel, [0])), PATIENT)

    def _publish(self, name: str, rng: random.Random, stop: threading.Event) -> None:
        """Publish with ids, some of them twice, as after an answer that was lost."""
        with Answering(self.server.address, [], self.ledger, name) as publisher:
            for number in itertools.count():
                if stop.wait(rng.uniform(0, 0.004)):
                    break
                channel = rng.choice(CHANNELS)
                fields = {"id": f"{name} {number}", "key": rng.choice("abcd")}
                data = [name, number, "x" * rng.choice((0, 100, 2000))]
                offset = publisher.publish(channel, data, **fields)
                if rng.random() < 0.1:
                    assert publisher.publish(channel, data, **fields) == offset
            self.done["publish"] += number

    def _misbehave(self, name: str, rng: random.Random, stop: threading.Event) -> None:
        """Do each thing in turn, in an order that is always another."""
        while not stop.is_set():
            for fault in rng.sample(FAULTS, len(FAULTS)):
                fault(Visit(self.server.address, rng))
                self.done[fault.__name__] += 1


class Visit:
    """One client that comes, does one thing, and goes."""

    def __init__(self, address: tuple[str, int], rng: random.Random) -> None:
        self.address, self.rng = address, rng

    def come(self, channels: Iterable[str] = (), **options: Any) -> Answering:
        return Answering(self.address, channels, deflate=self.rng.random() < 0.3, **options)

    def go(self, peer: Peer) -> None:
        """Leave in one of the ways in which clients leave."""
        way = self.rng.choice(("close", "end", "reset"))
        if way == "close":
            peer.send_frame(CLOSE, b"\x03\xe8")
            peer.expect_close(1000, answer=False)
        elif way == "end":
            peer.socket.close()
        else:
            peer.reset()

    def nothing_but_coming(self) -> None:
        self.go(self.come(self.rng.sample(CHANNELS, 2)))

    def half_a_handshake(self) -> None:
        request = handshake("/ws")
        with Peer(self.address) as peer:
            peer.send(request[: self.rng.randrange(len(request))])
            if self.rng.random() < 0.1 and peer.readable(5):
                with suppress(Ended):
                    assert peer.response().status == 408
                    peer.expect_end()
            elif self.rng.random() < 0.5:
                peer.reset()

    def half_a_message(self) -> None:
        peer = self.come(CHANNELS)
        peer.send_frame(TEXT, b'{"type":', fin=False)
        if self.rng.random() < 0.5:
            peer.send_frame(CONTINUATION, b"x" * 10_000, fin=False)
        if self.rng.random() < 0.1:
            peer.expect_close(1008)
        else:
            peer.reset()

    def half_a_frame(self) -> None:
        with self.come() as peer:
            peer.send_frame(TEXT, b"x" * self.rng.randrange(100), declare=1000)

    def malformed_frame(self) -> None:
        peer = Peer(self.address)
        peer.upgrade(self.rng.choice(("/ws", "/echo")))
        peer.send(self.rng.choice(MALFORMED))
        peer.expect_close(1002)

    def malformed_message(self) -> None:
        peer = self.come()
        peer.send_frame(TEXT, self.rng.choice((b"{", b"[]", b"1" * 1000, b'{"type":1}')))
        assert peer.read_json()["code"] == "bad_message"
        self.go(peer)

    def slow_reader(self) -> None:
        peer = self.come(CHANNELS, receive_buffer=4 * KIB)
        pause(self.rng.uniform(0, 0.3))
        for _ in range(self.rng.randrange(5)):
            if peer.readable(0.1):
                peer.apply(peer.read_json())
        peer.reset()

    def wrong_subscription(self) -> None:
        peer = self.come(CHANNELS[:1])
        peer.send_json({"type": "subscribe_updates", "channel": "@private"})
        peer.send_json({"type": "unsubscribe_updates", "channel": CHANNELS[0]})
        peer.send_json({"type": "unsubscribe_updates", "channel": CHANNELS[0]})
        for _ in range(2):
            peer.read_json("error")
        self.go(peer)

    def cancelled_stream(self) -> None:
        peer = self.come()
        peer.send_json({"type": "recite", "words": 50, "id": 1})
        channel = peer.read_json("subscription_established")["channel"]
        peer.positions[channel] = 0
        if self.rng.random() < 0.5:
            peer.send_json({"type": "ai_cancel", "runId": channel.removeprefix("run:"), "id": 2})
            while (message := peer.read_json())["type"] != "ai_cancel_result":
                peer.apply(message)
            assert message["data"] == {"cancelled": True}
        self.go(peer)

    def cancelled_handler(self) -> None:
        with self.come() as peer:
            peer.send_json({"type": "take_time", "seconds": self.rng.choice((0.01, 1000))})

    def closed_by_the_application(self) -> None:
        peer = self.come()
        peer.send_json({"type": "close_me"})
        peer.expect_close(4500)

    def echo(self) -> None:
        deflate = self.rng.random() < 0.5
        peer = Peer(self.address)
        peer.upgrade("/echo", headers=["Sec-WebSocket-Extensions: permessage-deflate"] if deflate else ())
        text = b"again and again " * self.rng.randrange(100)
        for _ in range(3):
            peer.send_frame(TEXT, deflated(text) if deflate else text, rsv=4 if deflate else 0)
            assert peer.read_message() == text
        self.go(peer)

    def echo_that_is_not_read(self) -> None:
        with Peer(self.address, receive_buffer=4 * KIB) as peer:
            peer.upgrade("/echo")
            peer.send_until_blocked(frame(BINARY, b"x" * 64 * KIB), most=1 * MIB, quiet=0.05)


FAULTS: Final = [
    method
    for name, method in vars(Visit).items()
    if name not in ("__init__", "come", "go") and callable(method)
]


def pause(seconds: float) -> None:
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, "a pause", seconds + 5)


def test_under_random_faults_nothing_is_lost_and_nothing_is_left_over() -> None:
    print(f"SOAK_SEED={SEED}")  # shown when the test fails
    limits: dict[str, Any] = {"handshake_timeout": 1, "message_timeout": 1, "write_timeout": 2}
    limits |= {"handler_timeout": 1, "heartbeat": 5, "bounds": {"history_seconds": 5}}
    with running(served(200, shards=2, **limits)) as server, Answering(server.address, []) as asking:
        soak = Soak(server, asking)
        rest = soak.first_rest()
        soak.run(SECONDS / 3)
        soak.wait_rest(rest)
        warm = server.resident()
        soak.run(SECONDS * 2 / 3)
        soak.wait_rest(rest)
        grown = server.resident() - warm
        assert grown < GROWTH, f"{grown / MIB:.1f} MiB more after {soak.done}"
        assert soak.count()["panics"] == 0
        print(f"{soak.done.total()} things done, {grown / MIB:.1f} MiB more")
        assert not re.search("ERROR|Traceback|panicked", server.output), server.output

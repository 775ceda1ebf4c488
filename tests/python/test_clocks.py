"""Clocks that jump, and a server that stands still: what counts is how much time has really passed."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hostile import PING, PONG, Answering, Subscriber
from serving import Server, running, served, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="symbols are preloaded as on Linux")

HOUR = 3600
YEAR = 8766 * HOUR

Shift = Callable[[int], None]


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that shifts the wall clock of the process it is loaded into."""
    library = tmp_path_factory.mktemp("wall_clock") / "wall_clock.so"
    source = Path(__file__).with_name("wall_clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return library


@contextlib.contextmanager
def shiftable(preloaded: Path, **options: Any) -> Iterator[tuple[Server, Shift]]:
    """A server, and a function that sets by how many seconds its wall clock is wrong."""
    place = preloaded.with_name(f"shift-{time.monotonic_ns()}")
    place.write_bytes(bytes(8))

    def shift(seconds: int) -> None:
        with place.open("r+b") as file:
            file.write(struct.pack("q", seconds))

    environment = {"LD_PRELOAD": str(preloaded), "WALL_CLOCK": str(place)}
    with running(served(environment=environment, **options)) as server:
        yield server, shift


class Watching(Answering):
    """Notes the time of each batch."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, [])
        self.times: list[datetime] = []

    def apply(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        self.times.append(datetime.fromisoformat(message["timestamp"]))
        return super().apply(message)

    def answer_pings(self, count: int) -> None:
        """Be silent but for pings until so many more have come."""
        until = self.pings + count
        while self.pings < until:
            received = self.read_frame()
            assert received.opcode == PING, received


def recover(server: Server, channel: str, offset: int, epoch: str) -> tuple[bool, Subscriber]:
    """Come back with a position; say whether everything since then follows."""
    reader = Subscriber(server.address, [])
    reader.send_json({"type": "subscribe_updates", "channel": channel, "epoch": epoch, "offset": offset})
    answer = reader.read_json("subscription_established")
    reader.positions[channel] = answer["offset"]
    return answer["recovered"], reader


def subscribe(peer: Subscriber, channel: str) -> str:
    """Subscribe and return the epoch."""
    peer.send_json({"type": "subscribe_updates", "channel": channel})
    answer = peer.read_json("subscription_established")
    peer.positions[channel] = answer["offset"]
    epoch: str = answer["epoch"]
    return epoch


def test_a_wall_clock_that_jumps_is_shown_and_changes_nothing_else(preloaded: Path) -> None:
    with (
        shiftable(preloaded, heartbeat=0.25, handler_timeout=5) as (server, shift),
        Watching(server.address) as peer,
    ):
        epoch = subscribe(peer, "news")
        for seconds in (HOUR, -HOUR, 10 * YEAR):
            before = peer.publish("news", seconds)
            peer.read_until("news", before)
            peer.send_json({"type": "take_time", "seconds": 0.1, "id": seconds})
            shift(seconds)
            answer = peer.read_json("take_time_result")
            after = peer.publish("news", seconds)
            peer.read_until("news", after)
            wrong = timedelta(seconds=seconds)
            for stamp in (peer.times[-1], datetime.fromisoformat(answer["timestamp"])):
                real = datetime.now(stamp.tzinfo)
                assert abs(stamp - wrong - real) < timedelta(minutes=1), "timestamps follow the wall clock"
            peer.answer_pings(2)
            recovered, reader = recover(server, "news", 0, epoch)
            with reader:
                assert recovered, "what was published before is as old as it is"
                reader.read_until("news", after)
        assert peer.gaps == []


@pytest.mark.parametrize("seconds", [-HOUR, 10 * YEAR], ids=["-1 h", "+10 y"])
def test_silence_and_age_are_measured_in_time_that_passed(preloaded: Path, seconds: int) -> None:
    with (
        shiftable(preloaded, heartbeat=0.6, bounds={"history_seconds": 1.0}) as (server, shift),
        Subscriber(server.address, []) as silent,
    ):
        epoch = subscribe(silent, "short-lived")
        began = time.monotonic()
        silent.publish("short-lived", "old")
        shift(seconds)
        silent.expect_close(4408)
        assert time.monotonic() - began > 1.0, "it had an interval to answer the ping in"
        recovered, reader = recover(server, "short-lived", 0, epoch)
        with reader:
            assert recovered, "nothing was appended since, nothing is tidied in so short a time"
            reader.read_until("short-lived", 1)  # what it was not offered yet would stay for it
            reader.read_until("short-lived", reader.publish("short-lived", "new"))
            end = time.monotonic() + 5
            while recovered:  # it goes with a tick in which no reader waits for it
                assert time.monotonic() < end, "what is too old goes, whatever the clock says"
                recovered, other = recover(server, "short-lived", 0, epoch)
                with other:
                    pass


@contextlib.contextmanager
def suspended(server: Server) -> Iterator[None]:
    """Stop the process for the time of the block."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def pass_time(seconds: float) -> None:
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, "time passes", seconds + 5)


def test_healthy_clients_are_not_closed_after_the_server_was_suspended() -> None:
    with contextlib.ExitStack() as open_peers:
        server = open_peers.enter_context(running(served(heartbeat=0.3)))
        silent = open_peers.enter_context(Subscriber(server.address, []))
        peers = [open_peers.enter_context(Subscriber(server.address, [])) for _ in range(20)]
        for peer in [silent, *peers]:
            assert peer.read_frame().opcode == PING
        for peer in peers[:10]:
            peer.send_frame(PONG)
        with suspended(server):
            for peer in peers[10:]:
                peer.send_frame(PONG)  # lies in the server's socket when it goes on
            pass_time(1)
        for _ in range(2):
            for peer in peers:
                assert peer.read_frame().opcode == PING
                peer.send_frame(PONG)
        silent.expect_close(4408)

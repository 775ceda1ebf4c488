"""A channel that is published to as fast as possible, and more subscribers than can be given all of it."""

from __future__ import annotations

import contextlib
import selectors
import threading
from collections.abc import Iterator
from typing import Any, Final

import pytest
from hostile import PATIENCE, Canary, Subscriber
from serving import running, served

pytestmark = pytest.mark.timeout(120)

KIB = 1 << 10
MIB = 1 << 20

LOG: Final = 128 * KIB
"""Bytes that the channel of the storm keeps, each publication's bookkeeping included."""


class Reader(Subscriber):
    """One of the crowd: counts what it gets, and looks into each publication for its number."""

    def __init__(self, address: tuple[str, int], channel: str) -> None:
        super().__init__(address, [channel], receive_buffer=16 * KIB)
        self.channel = channel
        self.frames = self.updates = 0

    @property
    def position(self) -> int:
        return self.positions[self.channel]

    def read_frames(self) -> None:
        """Apply what is there, and the rest of a frame that has begun."""
        while True:
            updates = self.apply(self.read_json())
            assert all(update["data"][0] == update["offset"] for update in updates)
            self.updates += len(updates)
            self.frames += bool(updates)
            if not self.buffered:
                return


class Crowd:
    """Readers of one channel, all in one thread, until each has come to the offset that was the last."""

    def __init__(self, readers: list[Reader]) -> None:
        self.readers = readers
        self.errors: list[BaseException] = []
        self._last: int | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                for reader in self.readers:
                    selector.register(reader.socket, selectors.EVENT_READ, reader)
                while self._last is None or any(reader.position < self._last for reader in self.readers):
                    for key, _ in selector.select(0.05):
                        key.data.read_frames()
        except BaseException as error:
            self.errors.append(error)

    def read_until(self, offset: int) -> None:
        self._last = offset
        self._thread.join(6 * PATIENCE)
        assert not self.errors, self.errors
        assert not self._thread.is_alive(), "the crowd waits for what does not come"


@contextlib.contextmanager
def crowded(address: tuple[str, int], channel: str, count: int) -> Iterator[Crowd]:
    with contextlib.ExitStack() as open_peers:
        yield Crowd([open_peers.enter_context(Reader(address, channel)) for _ in range(count)])


def count(peer: Subscriber) -> dict[str, Any]:
    """What the server counts."""
    peer.send_json({"type": "count"})
    counted: dict[str, Any] = peer.read_json("count_result")["data"]
    return counted


def test_a_storm_is_batched_and_bounded_and_readers_that_miss_a_part_are_told() -> None:
    readers, published = 200, 1_500_000
    with (
        running(served(history=1 << 30, bounds={"history_bytes": LOG})) as server,
        Subscriber(server.address, []) as asking,
        crowded(server.address, "storm", readers) as crowd,
        Canary(server.address, every=0.02) as canary,
    ):
        server.forget_peak()
        before, beats = server.resident(), len(canary.latencies)
        asking.send_json({"type": "storm", "channel": "storm", "count": published, "id": 1})
        asking.socket.settimeout(6 * PATIENCE)
        asking.read_json("storm_result")
        assert len(canary.latencies) - beats > 3, "other channels have their turn meanwhile"
        # The log, one partly written frame for each reader, and the noise of a process; not 300 MB.
        assert server.peak() - before < LOG + readers * LOG + 8 * MIB
        crowd.read_until(published)
        canary.wait_beats(5)
        counted = count(asking)
        for reader in crowd.readers:
            assert reader.position == published == reader.updates + sum(reader.gaps)
        assert counted["lost"] == sum(sum(reader.gaps) for reader in crowd.readers) > 0
        assert counted["gaps"] == sum(len(reader.gaps) for reader in crowd.readers)
        updates, frames = (sum(getattr(it, name) for it in crowd.readers) for name in ("updates", "frames"))
        assert updates > 20 * frames, "what is published within a tick leaves together"

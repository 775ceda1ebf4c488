"""Judges what a client of an event stream is told, event by event."""

from __future__ import annotations

from collections import Counter

from streams import Event


class Judge:
    """What one client has, and what it was told that it does not have."""

    def __init__(self, published: dict[str, list[bytes]]) -> None:
        self.published = published
        self.at: dict[str, tuple[str, int]] = {}
        self.seen: Counter[str] = Counter()

    def hear(self, event: Event, new: set[str]) -> None:
        message = event.data
        if event.name == "subscription_established":
            channel, position = message["channel"], (message["epoch"], message["offset"])
            recovered = message.get("recovered")
            if recovered:
                assert self.at[channel] == position
            elif recovered is None:
                assert channel in new, "it was told a position and is not asked about it"
            elif message["reason"] == "trimmed":
                assert position[1] > self.at[channel][1]
            else:
                assert message["reason"] == "unknown" and channel not in self.at
            self.at[channel] = position
            self.seen[message.get("reason", f"recovered {recovered}")] += 1
        elif event.name == "gap":
            epoch, offset = self.at[message["channel"]]
            assert (epoch, offset) == (message["epoch"], message["from"]) and message["to"] > offset
            self.at[message["channel"]] = (epoch, message["to"])
            self.seen["gap"] += 1
        elif event.name == "message":
            for update in message["updates"]:
                channel, offset = update["channel"], update["offset"]
                epoch, before = self.at[channel]
                assert offset == before + 1, (channel, before, offset)
                assert update["data"].encode() == self.published[channel][offset - 1]
                self.at[channel] = (epoch, offset)
                self.seen["update"] += 1

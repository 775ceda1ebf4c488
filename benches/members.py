"""Members of rooms: a program that the rows of `presence.py` start. It runs at the lowest priority.

    python members.py PORT COUNT SECONDS ROOMS BYTES SILENCE [--alone]

With the next line on stdin its clients begin to come, evenly within SECONDS. Each has a session, subscribes
to a room and to who is there (with ``--alone`` to the room only), and says BYTES of itself (0: nothing). It
prints ``entered`` when all are there, ``settled`` after SILENCE seconds in which nothing came, and after the
next line what they were told. Then the connections stay until stdin ends.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import resource
import select
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from attacker import frame, say

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: umbel.v1.first\r\n\r\n"
)
# Every so many members of a room, one reads all that it is told. Of the others the last message counts.
SAMPLE = 100
ID = re.compile(rb'"clientId":"([^"]+)"')


@dataclass(slots=True)
class Map:
    """What one member knows of its room."""

    entries: dict[str, Any] = field(default_factory=dict)
    position: int = 0
    top: int = 0

    def hear(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "gap":
            self._begin(message["to"], message["top"])
        elif kind == "subscription_established":
            self._begin(message["offset"], message["top"])
        elif kind == "batched_updates":
            for update in message["updates"]:
                if update.get("from", update["offset"] - 1) != self.position:
                    raise SystemExit("an update that does not go on where the one before ended")
                self.position = update["offset"]
                self.top = max(self.top, update.get("top", 0))
                if update.get("removed"):
                    self.entries.pop(update["key"], None)
                else:
                    self.entries[update["key"]] = update["data"]

    def _begin(self, position: int, top: int) -> None:
        self.entries.clear()
        self.position, self.top = position, top


@dataclass(slots=True)
class Member:
    """One client, from its connection on."""

    socket: socket.socket
    room: str
    map: Map | None
    greeted: bool = False
    missing: int = 0
    client_id: str = ""
    rest: bytes = b""
    # The newest batch about the room.
    last: bytes = b""


class Members:
    """All of them, in one loop."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._poller = select.epoll()
        self._members: dict[int, Member] = {}
        self._opened = self._entered = self._bytes = 0
        self._began = self._last_event = 0.0
        self._buffer = bytearray(1 << 20)

    def run(self) -> None:
        options = self._options
        self._began = time.monotonic()
        while self._entered < options.count:
            due = (time.monotonic() - self._began) / options.seconds * options.count
            while self._opened < min(due, options.count):
                self._open()
            self._poll(0.005)
        self._say("entered", seconds=time.monotonic() - self._began)
        self._last_event = time.monotonic()
        while time.monotonic() < self._last_event + options.silence:
            self._poll(0.1)
        self._say("settled", seconds=self._last_event - self._began)
        bytes_in_all = self._bytes
        self._wait_line()
        told = "nothing" if options.alone else self._check()
        self._say("told", told=told, bytes=bytes_in_all, bytes_at_rest=self._bytes - bytes_in_all)
        self._wait_line()

    def _say(self, event: str, **figures: object) -> None:
        print(json.dumps({"event": event, **figures}), flush=True)

    def _wait_line(self) -> None:
        """Goes on reading until there is a line on stdin, or its end."""
        self._poller.register(0, select.EPOLLIN)
        while not self._poll(1.0):
            pass
        self._poller.unregister(0)
        sys.stdin.readline()

    def _open(self) -> None:
        number = self._opened
        self._opened += 1
        it = socket.socket()
        it.setblocking(False)
        it.connect_ex(("127.0.0.1", self._options.port))
        is_sampled = number // self._options.rooms % SAMPLE == 0 and not self._options.alone
        room = f"room:{os.getpid()}-{number % self._options.rooms}"
        self._members[it.fileno()] = Member(it, room, Map() if is_sampled else None)
        # Its request goes out when it is connected.
        self._poller.register(it.fileno(), select.EPOLLOUT)

    def _poll(self, seconds: float) -> bool:
        """Returns whether there is something on stdin."""
        is_called = False
        for number, events in self._poller.poll(seconds, 512):
            if number == 0:
                is_called = True
            elif events & select.EPOLLOUT:
                self._members[number].socket.sendall(UPGRADE)
                self._poller.modify(number, select.EPOLLIN)
            else:
                self._receive(self._members[number])
        return is_called

    def _receive(self, member: Member) -> None:
        got = member.socket.recv_into(self._buffer)
        if not got:
            raise SystemExit(f"a member was closed: {member.rest[-200:]!r}")
        self._bytes += got
        self._last_event = time.monotonic()
        data = member.rest + self._buffer[:got]
        if not member.greeted and not member.client_id:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                member.rest = head
                return
            if not head.startswith(b"HTTP/1.1 101"):
                raise SystemExit(head.decode())
            member.client_id = "?"
            token = f"user-{len(self._members)}"
            member.socket.sendall(frame(say("authenticate", token=token)))
        at = 0
        while (end := end_of_frame(data, at)) is not None:
            begin, at = end
            self._hear(member, bytes(data[begin:at]))
        member.rest = bytes(data[at:])

    def _hear(self, member: Member, text: bytes) -> None:
        if not member.greeted:
            found = ID.search(text)
            if not found or not text.startswith(b'{"type":"connection_established"'):
                raise SystemExit(f"not let in: {text[:200]!r}")
            member.greeted, member.client_id = True, found[1].decode()
            self._enter(member)
        elif text.startswith(b'{"type":"subscription_established"'):
            member.missing -= 1
            self._entered += member.missing == 0
        elif text.startswith((b'{"type":"error"', b'{"type":"subscription_ended"')):
            raise SystemExit(text[:200].decode())
        elif text.startswith(b'{"type":"batched_updates"'):
            member.last = text
        if member.map and b'"$presence:' in text:
            member.map.hear(json.loads(text))

    def _enter(self, member: Member) -> None:
        options = self._options
        channels = [member.room] if options.alone else [member.room, f"$presence:{member.room}"]
        member.missing = len(channels)
        messages = [frame(say("subscribe_updates", channel=it, id=n + 1)) for n, it in enumerate(channels)]
        if options.bytes and not options.alone:
            text = "x" * (options.bytes - len('{"text": ""}'))
            messages.append(frame(say("presence_update", channel=member.room, data={"text": text})))
        member.socket.sendall(b"".join(messages))

    def _check(self) -> str:
        """Whether each knows who is there, or how many. Returns which of the two it is."""
        told = set()
        tops: dict[str, int] = {}
        for member in self._members.values():
            if member.map is None:
                continue
            here = {it.client_id for it in self._members.values() if it.room == member.room}
            known = member.map
            if known.position < known.top or tops.setdefault(member.room, known.position) != known.position:
                raise SystemExit("a member is behind")
            if list(known.entries) == [""]:
                told.add("count")
                if known.entries[""]["count"] != len(here):
                    raise SystemExit(f"told {known.entries['']['count']} of {len(here)}")
            else:
                told.add("list")
                if known.entries.keys() != here:
                    raise SystemExit(f"{len(known.entries)} listed of {len(here)}")
        for member in self._members.values():
            updates = json.loads(member.last)["updates"]
            if updates[-1]["offset"] != tops.get(member.room):
                raise SystemExit("a member was told less than others")
        return " and ".join(sorted(told))


def end_of_frame(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the payload of the frame begins and ends that begins here, if all of it is there."""
    if len(data) < at + 2:
        return None
    size, begin = data[at + 1] & 127, at + 2
    if size > 125:
        digits = 2 if size == 126 else 8
        size = int.from_bytes(data[begin : begin + digits], "big")
        begin += digits
    return (begin, begin + size) if len(data) >= begin + size else None


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("port", "count", "seconds", "rooms", "bytes", "silence"):
        parser.add_argument(name, type=float if name in ("seconds", "silence") else int)
    parser.add_argument("--alone", action="store_true")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.nice(19)
    gc.disable()
    print("ready", flush=True)
    if sys.stdin.readline():
        Members(options).run()


if __name__ == "__main__":
    main()

"""A miniature of the server, for histories of the client machine: sessions, positions, requests done once.

It is written from docs/protocol.md, and decides at once. It has no sockets: a `Wire` is one connection, with
what is on its way in both directions.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import Any

STAMP = "2026-11-23T07:15:45.042Z"
WINDOW = 3
TTL = 20.0


@dataclass
class Log:
    """What was published: all of it in `kept`, and what the server still has after `base`."""

    epoch: str
    replay: bool
    kept: list[Any] = field(default_factory=list)
    base: int = 0

    @property
    def top(self) -> int:
        return len(self.kept)


@dataclass
class Session:
    token: str
    client: str
    subject: str
    attempt: int = 0
    places: dict[str, int] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)
    asked: dict[Any, str] = field(default_factory=dict)
    answers: dict[Any, dict[str, Any]] = field(default_factory=dict)
    wire: Wire | None = None
    expires: float | None = None


@dataclass
class Wire:
    """One connection. Each end sees its own side of it: half of it may be gone."""

    up: deque[str] = field(default_factory=deque)
    down: deque[str] = field(default_factory=deque)
    session: Session | None = None
    served: bool = True
    broken: bool = False  # nothing passes any more

    def say(self, type: str, **fields: Any) -> None:
        if not self.broken:
            self.down.append(json.dumps({"type": type, **fields}))


class Miniature:
    """The server. `logs` has every epoch that there ever was, by name and epoch; `done` what requests did."""

    def __init__(self) -> None:
        self.numbers = count(1)
        self.logs: dict[tuple[str, str], Log] = {}
        self.now_of: dict[str, Log] = {}
        self.sessions: dict[str, Session] = {}
        self.done: list[str] = []
        self.failing = False
        self.window: float = WINDOW

    def log(self, name: str) -> Log:
        if name not in self.now_of:
            self.turn(name)
        return self.now_of[name]

    def turn(self, name: str) -> None:
        """The log is another one from now on."""
        log = Log(f"e{next(self.numbers)}", replay=name[0] in "r@")
        self.now_of[name] = self.logs[name, log.epoch] = log

    def publish(self, name: str) -> int:
        log = self.log(name)
        log.kept.append(f"{name} {log.epoch} {log.top + 1}")
        for session in self.sessions.values():
            self.deliver(session, name)
        return log.top

    def deliver(self, session: Session, name: str) -> None:
        """Send what a client has not got, if it is there; what the log has dropped is a gap."""
        log, wire = self.log(name), session.wire
        if wire is None or name not in session.places:
            return
        place = session.places[name]
        if place < log.base:
            wire.say("gap", channel=name, epoch=log.epoch, **{"from": place}, to=log.base, reason="overrun")
            place = log.base
        updates = [
            {"channel": name, "offset": n, "data": log.kept[n - 1]} for n in range(place + 1, log.top + 1)
        ]
        if updates:
            wire.say("batched_updates", updates=updates, count=len(updates), timestamp=STAMP)
        session.places[name] = log.top

    def restart(self) -> None:
        """All sessions and logs are gone."""
        for session in self.sessions.values():
            if session.wire:
                session.wire.served = False
        self.sessions.clear()
        for name in list(self.now_of):
            self.turn(name)

    def lost(self, session: Session, now: float) -> None:
        """The server has noticed that a client's connection is gone."""
        session.wire, session.expires = None, now + TTL

    def expire(self, now: float) -> None:
        for session in list(self.sessions.values()):
            if session.expires is not None and now >= session.expires:
                del self.sessions[session.token]

    def hear(self, wire: Wire, text: str, now: float, subject: str) -> None:
        message = json.loads(text)
        kind, known = message["type"], {"id": message["id"]} if "id" in message else {}
        session = wire.session
        if kind in ("authenticate", "resume"):
            self.first(wire, message, now, subject)
        elif session is None or session.wire is not wire:
            return
        elif kind == "heartbeat":
            wire.say("heartbeat_ack", timestamp=STAMP)
        elif kind == "subscribe_updates":
            named = (message["epoch"], message["offset"]) if "epoch" in message else None
            for name in message.get("channels", [message.get("channel")]):
                self.subscribe(session, name, named, known)
        elif kind == "unsubscribe_updates":
            name = message["channel"]
            if session.places.pop(name, None) is None:
                self.error(wire, "not_subscribed", channel=name, **known)
            else:
                session.made.discard(name)
                wire.say("subscription_ended", channel=name, reason="unsubscribed", **known)
        elif message["id"] in session.answers:
            wire.say(**session.answers[message["id"]])
        elif message["id"] in session.asked:
            assert session.asked[message["id"]] == text, "a repeated request is the same to the byte"
        else:
            session.asked[message["id"]] = text
            assert len(session.asked) <= self.window, "no more than may be unanswered"

    def first(self, wire: Wire, message: dict[str, Any], now: float, subject: str) -> None:
        session = self.sessions.get(message.get("session", ""))
        known = {"resumed": False, "reason": "unknown"} if message["type"] == "resume" else {}
        if session and message["attempt"] <= session.attempt:
            wire.served = False
            wire.say("closed", code=4502)
            return
        if session and session.subject == subject:
            if session.wire:
                session.wire.served = False
            session.attempt, known = message["attempt"], {"resumed": True}
        else:
            session = Session(f"s{next(self.numbers)}", f"c{next(self.numbers)}", subject)
            self.sessions[session.token] = session
        session.wire, session.expires, wire.session = wire, None, session
        wire.say(
            "connection_established",
            clientId=session.client,
            subject=subject,
            session={"token": session.token, "ttl": TTL / 1000},
            heartbeat=1,
            tick=16,
            reconnectWindow=10,
            maxUnanswered=WINDOW,
            timestamp=STAMP,
            **known,
        )
        positions = message.get("positions", {})
        for name in list(session.places):
            if name not in positions:
                place = session.places.pop(name)
                if name in session.made or name[0] == "@":
                    session.places[name] = place
                    log = self.log(name)
                    wire.say(
                        "subscription_established", channel=name, epoch=log.epoch, offset=place, top=log.top
                    )
                    self.deliver(session, name)
        for name, position in positions.items():
            if name[0] == "@" and name != f"@{session.client}":
                wire.say("subscription_ended", channel=name, reason="session_lost")
            else:
                self.subscribe(session, name, (position["epoch"], position["offset"]), {})

    def subscribe(
        self, session: Session, name: str, named: tuple[str, int] | None, known: dict[str, Any]
    ) -> None:
        wire, log = session.wire, self.log(name)
        assert wire is not None
        if name not in session.places and (name.startswith("no") or self.failing):
            code = "not_allowed" if name.startswith("no") else "timeout"
            self.error(wire, code, channel=name, **known)
            return
        place, told = log.base if log.replay else log.top, {}
        if named:
            told = {"recovered": False, "reason": "epoch"}
            if named[0] == log.epoch and named[1] <= log.top:
                place = max(named[1], log.base)
                recovered = place == named[1]
                told = {"recovered": True} if recovered else {"recovered": False, "reason": "trimmed"}
        session.places[name] = place
        wire.say(
            "subscription_established",
            channel=name,
            epoch=log.epoch,
            offset=place,
            top=log.top,
            **told,
            **known,
        )
        self.deliver(session, name)

    def make(self, session: Session, name: str) -> None:
        """The application subscribes a client, or sends it its first direct message."""
        if session.wire and name not in session.places:
            session.made.add(name)
            self.subscribe(session, name, None, {})

    def end(self, session: Session, name: str) -> None:
        if session.wire and session.places.pop(name, None) is not None:
            session.made.discard(name)
            session.wire.say("subscription_ended", channel=name, reason="revoked")

    def answer(self, session: Session, id: Any) -> None:
        """Do a request, and answer it if the client is there."""
        message = json.loads(session.asked.pop(id))
        self.done.append(message["data"])
        if message["type"] == "publish":
            offset = self.publish(message["channel"])
            answer = {"type": "published", "channel": message["channel"], "offset": offset, "id": id}
        else:
            answer = {"type": "ask_result", "id": id, "data": message["data"], "timestamp": STAMP}
        session.answers[id] = answer
        if session.wire:
            session.wire.say(**answer)

    def error(self, wire: Wire, code: str, **fields: Any) -> None:
        wire.say("error", code=code, message=code, timestamp=STAMP, **fields)

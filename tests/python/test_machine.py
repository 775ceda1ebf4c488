"""Random histories of the client machine, on a network that cuts anywhere, with a miniature of the server.

Both sides are checked: what the application is told, and what the server did. ``MACHINE_SEEDS`` is how many
histories there are.
"""

from __future__ import annotations

import math
import os
import random
from typing import Any

import pytest
from miniature import Miniature, Wire
from umbel.client._machine import Machine

SEEDS = int(os.environ.get("MACHINE_SEEDS", "300"))
NAMES = ["ra", "rb", "fa", "fb", "no", "@"]


class Reader:
    """What the application was told of one subscription, compared with the logs of the server."""

    def __init__(self, server: Miniature, name: str, position: dict[str, Any] | None) -> None:
        self.server, self.name = server, name
        self.epoch, self.offset = (position["epoch"], position["offset"]) if position else ("", 0)
        self.begun = self.over = False
        self.channel = name

    def told_begun(self, detail: dict[str, Any]) -> None:
        at = detail["position"]
        if detail.get("recovered"):
            assert (at["epoch"], at["offset"]) == (self.epoch, self.offset), "it goes on where it was"
        elif not self.begun and not self.epoch:
            self.epoch, self.offset = at["epoch"], at["offset"]
        assert detail["top"] >= at["offset"]
        self.begun = True

    def told_updates(self, updates: list[dict[str, Any]]) -> None:
        assert self.begun
        assert not self.over
        for update in updates:
            self.channel = update["channel"]
            log = self.server.logs[self.channel, self.epoch]
            assert update["offset"] == self.offset + 1, f"{self.name}: once and in order"
            assert update["data"] == log.kept[self.offset]
            self.offset += 1

    def told_gap(self, gap: dict[str, Any]) -> None:
        assert self.begun
        if gap["from"] is None:
            assert gap["epoch"] != self.epoch or gap["reason"] == "subject", "another log, or another client"
        else:
            assert gap["from"] == self.offset < gap["to"]
            assert gap["epoch"] == self.epoch
            if self.name != "@":
                assert gap["to"] <= self.server.logs[self.channel, self.epoch].base, (
                    "what the log has dropped"
                )
        self.epoch, self.offset = gap["epoch"], gap["to"]


class History:
    """A client, a server, a network, and an application that does one thing or another."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        options = {"queue": 5, "queue_age": 15_000, "base": 50, "window": 10, "cap": 500, "attempts_in": 100}
        self.machine = Machine({**options, "ask_token": True}, self.dice.random)
        self.server = Miniature()
        self.now = 0.0
        self.wires: dict[int, Wire] = {}
        self.subject = "ann"
        self.readers: dict[int, Reader] = {}
        self.pending: dict[int, Any] = {}
        self.settled: dict[int, Any] = {}
        self.state: Any = "idle"
        self.starts: list[float] = []
        self.texts = 0

    # What the shell does

    def act(self) -> None:
        actions = list(self.machine.actions)
        self.machine.actions.clear()
        for name, *rest in actions:
            getattr(self, f"do_{name}")(*rest)
        if self.machine.actions:
            self.act()

    def do_state(self, state: str, detail: dict[str, Any]) -> None:
        self.state = state

    def do_ask_token(self, ticket: int) -> None:
        if self.dice.random() < 0.9:
            self.machine.token(self.now, ticket, f"token {self.dice.random()}")
        else:
            self.machine.token_failed(self.now, ticket, "no network")

    def do_open(self, attempt: int) -> None:
        self.starts.append(self.now)
        self.wires[attempt] = Wire()

    def do_send(self, attempt: int, text: str) -> None:
        assert attempt in self.wires
        if not self.wires[attempt].broken:
            self.wires[attempt].up.append(text)

    def do_drop(self, attempt: int, code: int) -> None:
        wire = self.wires.pop(attempt, None)
        if wire and self.dice.random() < 0.5:
            self.server_sees_the_end(wire)

    def do_updates(self, id: int, updates: list[dict[str, Any]]) -> None:
        if id in self.readers:
            self.readers[id].told_updates(updates)

    def do_gap(self, id: int, gap: dict[str, Any]) -> None:
        if id in self.readers:
            self.readers[id].told_gap(gap)

    def do_begun(self, id: int, detail: dict[str, Any]) -> None:
        if id in self.readers:
            self.readers[id].told_begun(detail)

    def do_ended(self, id: int, reason: dict[str, Any]) -> None:
        if reader := self.readers.get(id):
            assert not reader.over
            reader.over = True

    def do_settled(self, key: int, ok: bool, value: Any) -> None:
        assert key not in self.settled, "once"
        self.settled[key] = (ok, value)
        if not ok and value["code"] in ("outcome_unknown", "cancelled"):
            # The client may have given up what it had asked for, and the server has it for some time more.
            self.server.window = math.inf

    def do_warn(self, text: str) -> None:
        assert "protocol" not in text, text
        assert "defect" not in text, text

    # What happens

    def server_sees_the_end(self, wire: Wire) -> None:
        wire.served = False
        if wire.session and wire.session.wire is wire:
            self.server.lost(wire.session, self.now)

    def network(self) -> None:
        """Something arrives, or the connection breaks."""
        if not self.wires:
            return
        attempt = self.dice.choice(list(self.wires))
        wire = self.wires[attempt]
        chance = self.dice.random()
        if chance < 0.04:
            wire.broken = True
            for way in (wire.up, wire.down):
                while way and self.dice.random() < 0.5:
                    way.pop()
        elif wire.broken and not wire.down and chance < 0.3:
            del self.wires[attempt]
            self.machine.closed(self.now, attempt, 1006, "")
        elif wire.broken and not wire.up and chance < 0.5:
            self.server_sees_the_end(wire)
        elif attempt == max(self.wires) and not wire.session and not wire.up and self.dice.random() < 0.5:
            if self.dice.random() < 0.1:
                del self.wires[attempt]
                self.machine.failed(self.now, attempt, "refused", False)
            else:
                self.machine.opened(self.now, attempt, "umbel.v1.first")
        elif wire.up and wire.served and chance < 0.6:
            self.server.hear(wire, wire.up.popleft(), self.now, self.subject)
        elif wire.down:
            self.arrive(attempt, wire.down.popleft())
        elif not wire.served and not wire.broken:
            del self.wires[attempt]
            self.machine.closed(self.now, attempt, 1012, "")

    def arrive(self, attempt: int, text: str) -> None:
        if '"closed"' in text:
            self.machine.closed(self.now, attempt, 4502, "")
        else:
            self.machine.received(self.now, attempt, text)

    def application(self) -> None:
        chance = self.dice.random()
        if chance < 0.3:
            name = self.dice.choice(NAMES)
            position = None
            if self.dice.random() < 0.3 and name in self.server.now_of:
                log = self.dice.choice([it for (n, _), it in self.server.logs.items() if n == name])
                position = {"epoch": log.epoch, "offset": self.dice.randint(0, log.top)}
            key = self.machine.subscribe(self.now, name, position)
            self.readers[key] = Reader(self.server, name, position)
        elif chance < 0.5 and self.readers:
            key = self.dice.choice(list(self.readers))
            del self.readers[key]
            self.machine.unsubscribe(self.now, key)
        elif chance < 0.9:
            self.texts += 1
            text, volatile = f"text {self.texts}", self.dice.random() < 0.2
            if self.dice.random() < 0.5:
                key = self.machine.request(self.now, "ask", text, volatile)
            else:
                key = self.machine.publish(self.now, self.dice.choice(NAMES[:4]), text, None, volatile)
            self.pending[key] = text
        elif self.pending:
            self.machine.cancel(self.now, self.dice.choice(list(self.pending)))

    def service(self) -> None:
        """The application on the server does something, or the server is started again."""
        chance = self.dice.random()
        sessions = [it for it in self.server.sessions.values() if it.wire]
        session = self.dice.choice(sessions) if sessions else None
        if chance < 0.5:
            self.server.publish(self.dice.choice(NAMES[:4]))
        elif chance < 0.6:
            log = self.server.log(self.dice.choice(NAMES[:4]))
            log.base = self.dice.randint(log.base, log.top)
        elif chance < 0.62:
            self.server.restart()
        elif chance < 0.63:
            self.subject = self.dice.choice(["ann", "bob"])
        elif chance < 0.66:
            self.server.failing = not self.server.failing
        elif session and chance < 0.75:
            name = self.dice.choice([*NAMES[:4], f"@{session.client}"])
            self.server.make(session, name)
            if name[0] == "@":
                self.server.publish(name)
        elif session and chance < 0.78 and session.places:
            self.server.end(session, self.dice.choice([n for n in session.places if n[0] != "@"] or ["-"]))
        elif session and session.asked:
            self.server.answer(session, self.dice.choice(list(session.asked)))

    def step(self) -> None:
        chance = self.dice.random()
        deadline = self.machine.deadline
        if chance < 0.06:
            self.application()
        elif chance < 0.2:
            self.service()
        elif chance < 0.9:
            self.network()
        elif deadline is not None and self.dice.random() < 0.5:
            self.now = max(self.now, deadline)
            self.machine.tick(self.now)
        else:
            self.now += self.dice.random() * 100
        self.server.expire(self.now)
        self.act()

    def settle_down(self) -> None:
        """From now on nothing breaks, and both sides do what there is to do."""
        self.server.failing = False
        for _ in range(3000):
            for attempt, wire in list(self.wires.items()):
                if wire.broken or not wire.served:
                    del self.wires[attempt]
                    self.server_sees_the_end(wire)
                    self.machine.closed(self.now, attempt, 1006, "")
                    self.act()
                    continue
                if not wire.session and not wire.up:
                    self.machine.opened(self.now, attempt, "umbel.v1.first")
                while attempt in self.wires and (wire.up or wire.down):
                    while wire.up and wire.served:
                        self.server.hear(wire, wire.up.popleft(), self.now, self.subject)
                    if wire.down:
                        self.arrive(attempt, wire.down.popleft())
                    if not wire.served:
                        break
                    self.act()
                for session in list(self.server.sessions.values()):
                    for key in list(session.asked):
                        self.server.answer(session, key)
                self.act()
            deadline = self.machine.deadline
            busy = any(wire.up or wire.down for wire in self.wires.values())
            if self.state == "connected" and not busy and self.idle():
                return
            if not busy and deadline is not None:
                self.now = max(self.now, deadline)
                self.server.expire(self.now)
                self.machine.tick(self.now)
                self.act()
        raise AssertionError(f"it does not come to rest: {self.state}")

    def idle(self) -> bool:
        """Whether every reader has all that there is, and every request its answer."""
        for reader in self.readers.values():
            name = reader.channel
            if reader.over or reader.name == "@":
                continue
            log = self.server.log(name)
            if (reader.epoch, reader.offset) != (log.epoch, log.top):
                return False
        return self.pending.keys() <= self.settled.keys()

    def check(self) -> None:
        assert len(set(self.server.done)) == len(self.server.done), "each request is done at most once"
        for key, text in self.pending.items():
            ok, value = self.settled[key]
            if ok:
                assert text in self.server.done
                assert value == text or value["channel"] in NAMES
            elif value["code"] in ("expired", "queue_full"):
                assert text not in self.server.done, "what was rejected is never sent"
        for early, late in zip(self.starts, self.starts[5:], strict=False):
            assert late - early >= 100, "never more than five attempts in that time"


@pytest.mark.parametrize("block", range(10))
def test_random_histories(block: int) -> None:
    for seed in range(block, SEEDS, 10):
        history = History(seed)
        try:
            history.machine.connect(0)
            history.act()
            for _ in range(history.dice.randint(50, 400)):
                history.step()
                if history.state == "closed":  # nobody closes it here
                    raise AssertionError("closed")
            history.settle_down()
            history.check()
            history.machine.close(history.now)
            history.act()
            assert history.machine.deadline is None
            assert all(reader.over for reader in history.readers.values())
            assert history.pending.keys() <= history.settled.keys()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise

"""Several programs come to a room, say what they do there, and leave, on networks that are cut all the time.
Some lose their sessions, or are sent away.

Who came and who left is always the difference of what is shown. At the end all show who is there, as they
have said it, and the application has heard the same. ``CHAOS_SEED`` repeats the choices of a run,
``CHAOS_CUTS`` makes it larger.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from contextlib import AsyncExitStack
from typing import Any, Final

import pytest
from breaking import Network, breaking
from connecting import port_of, until
from umbel import Client, Umbel
from umbel.client import Limits, Members, connect
from umbel.exceptions import UmbelError
from umbel.presence import PresenceChange

CUTS: Final = int(os.environ.get("CHAOS_CUTS", "30"))
SEED: Final = int(os.environ.get("CHAOS_SEED", time.time_ns() % 1_000_000))
PROGRAMS: Final = 7
ROOM: Final = "room:1"

FAST: Final = Limits(
    base=0.02, cap=0.1, useful=0.1, attempts=1000, attempts_in=1, attempt_timeout=2, answer_timeout=0.5
)


class Program:
    """One client, which follows the room for a while."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.umbel: Any = None
        self.members: Members | None = None
        self.shown: set[str] | None = None
        self.counted = False
        self.said: dict[str, Any] = {}
        self.sure = True  # every change was answered
        self.faults: list[str] = []
        self.asking: set[asyncio.Task[None]] = set()

    def changed(self, members: Members, joined: list[dict[str, Any]], left: list[dict[str, Any]]) -> None:
        came, gone = ({it["clientId"] for it in those} for those in (joined, left))
        counted = members.count > 0 and not members
        if counted and (came or gone):
            self.faults.append("somebody came to a number, or left it")
        before = set(members) if self.shown is None or counted or self.counted else self.shown
        if came & before or gone - before or (before | came) - gone != set(members):
            self.faults.append(f"{before} became {set(members)}: {came} came, {gone} left")
        if members and members.count != len(members):
            self.faults.append(f"{members.count} of {len(members)}")
        self.shown, self.counted = set(members), counted
        if members.reason:
            self.members = None

    def enter(self) -> None:
        self.shown, self.counted, self.said, self.sure = None, False, {}, True
        self.members = self.umbel.presence(ROOM, self.changed)

    def act(self, number: int) -> None:
        chance = self.dice.random()
        if self.members is None:
            if chance < 0.1:
                self.enter()
        elif chance < 0.02:
            self.members.close()
            self.members = None
        elif chance < 0.3 and len(self.asking) < 8:
            change: dict[str, Any] = self.dice.choice(
                [
                    {"current_task": number},
                    {"data": {"n": number}},
                    {"active": number % 2 > 0},
                    {"typing": True},
                ]
            )
            task = asyncio.create_task(self.say(self.members, self.said, change))
            self.asking.add(task)
            task.add_done_callback(self.asking.discard)

    async def say(self, members: Members, said: dict[str, Any], change: dict[str, Any]) -> None:
        try:
            await members.update(**change)
        except UmbelError:
            self.sure = False
        else:
            said |= change


@pytest.mark.timeout(90 + CUTS)
@pytest.mark.parametrize("limit", [3, 1000])
async def test_all_show_who_is_there(limit: int) -> None:
    dice = random.Random(SEED)
    app = Umbel(heartbeat=1, reconnect_window=0.05, shards=2, presence_interval=0.02, presence_limit=limit)
    app.authenticate(lambda request: request.token)
    app.channel("room:{x}", open=True, presence=True)
    heard: set[str] = set()

    @app.on_presence("room:{x}")
    async def gathered(change: PresenceChange, x: str) -> None:
        for member in change.joined + change.left:
            (heard.add if member.here else heard.discard)(member.client_id)
        await asyncio.sleep(0.01)

    programs = [Program(random.Random(dice.random())) for _ in range(PROGRAMS)]
    networks: list[Network] = []
    async with app.serve(port=0) as server, AsyncExitStack() as stack:
        assert server._core is not None
        for number, program in enumerate(programs):
            url, network = await stack.enter_async_context(breaking(port_of(server), SEED + number, 0.05))
            networks.append(network)
            program.umbel = await stack.enter_async_context(connect(url, limits=FAST, token=f"user {number}"))
        number = 0
        while sum(network.cuts for network in networks) < CUTS:
            for program in programs:
                number += 1
                program.act(number)
            for link in [link for network in networks for link in network.links]:
                if dice.random() < 0.01:
                    link.cut()
            clients: list[Client] = app.clients()
            if clients and dice.random() < 0.03:
                dice.choice(clients).close(1012, "the session is over")
            elif clients and dice.random() < 0.03:
                dice.choice(clients).unsubscribe(ROOM, "sent away")
            elif dice.random() < 0.02:
                server._core.advance_clock(dice.choice([1, 2.1, 10.1]))
            await asyncio.sleep(0.01)
        for network in networks:
            network.heal()
        await until(lambda: not any(program.asking for program in programs), 30)
        for program in programs[: PROGRAMS - 1 if limit > PROGRAMS else 1]:
            if program.members is None:
                program.enter()
        for client in app.clients():
            client.close(1012, "the session is over")
        await until(lambda: all(program.umbel.state.name == "connected" for program in programs), 30)
        if limit < PROGRAMS:
            server._core.advance_clock(61)  # they may be a list again
        there = [program for program in programs if program.members is not None]

        async def is_right() -> bool:
            server_sees = {it.client_id: it for them in (await app.presence(ROOM)).values() for it in them}
            if heard != set(server_sees) or heard != {program.umbel.client_id for program in there}:
                return False
            for program in there:
                members = program.members
                assert members is not None, "nobody is sent away any more"
                seen = server_sees[program.umbel.client_id]
                said = {name: value for name, value in program.said.items() if name != "typing"}
                if program.sure and any(getattr(seen, name) != value for name, value in said.items()):
                    return False
                if members.count != len(heard):
                    return False
                for key, it in members.items():
                    seen = server_sees[key]
                    entry = (it["isActive"], it["currentTask"], it["data"], it["typing"])
                    if entry != (seen.active, seen.current_task, seen.data, seen.typing):
                        return False
            return limit < PROGRAMS or all(len(program.members or ()) == len(heard) for program in there)

        async with asyncio.timeout(30):
            while not await is_right():
                server._core.advance_clock(0.1)
                await asyncio.sleep(0.02)
    assert not [fault for program in programs for fault in program.faults], f"seed {SEED}"

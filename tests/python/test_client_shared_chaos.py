"""Several programs change one state on networks that are cut all the time, and lose their sessions at times.

No change is done twice, none takes the place of one that its user has not seen, and at the end all have the
same map. ``CHAOS_SEED`` repeats the choices of a run. ``CHAOS_CLIENTS``, ``CHAOS_CUTS`` and
``CHAOS_SECONDS`` make it larger: it ends when there were so many cuts, and not before so many seconds.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import pytest
from breaking import Network, breaking
from connecting import port_of, until
from umbel import Client, Umbel
from umbel.client import Limits, OutcomeUnknown, RequestFailed, SharedState, connect

CLIENTS: Final = int(os.environ.get("CHAOS_CLIENTS", "6"))
CUTS: Final = int(os.environ.get("CHAOS_CUTS", "60"))
SECONDS: Final = float(os.environ.get("CHAOS_SECONDS", "0"))
SEED: Final = int(os.environ.get("CHAOS_SEED", time.time_ns() % 1_000_000))

FAST: Final = Limits(
    base=0.02, cap=0.1, useful=0.1, attempts=1000, attempts_in=1, attempt_timeout=2, answer_timeout=0.5
)
BOARD: Final = "board:1"


@dataclass(slots=True)
class Deed:
    """What somebody did to a key: what was shown there before, what is there afterwards, and where it is in
    the log. Values are numbers that nobody else uses; 0 is nothing.
    """

    kind: str
    key: str
    before: int
    after: int
    offset: int = 0
    outcome: str = ""


class Program:
    """One client, which changes what it likes."""

    def __init__(self, number: int, dice: random.Random, numbers: Any) -> None:
        self.number, self.dice, self.numbers = number, dice, numbers
        self.deeds: list[Deed] = []
        self.floor: dict[str, int] = {}  # offsets of its own changes that were confirmed
        self.faults: list[str] = []
        self.asking: set[asyncio.Task[None]] = set()
        self.state: SharedState

    def look(self, state: SharedState, keys: list[str]) -> None:
        """What is shown is never older than a change of one's own that was confirmed."""
        machine = state._machine
        for key, least in self.floor.items():
            if any(change.state == "confirmed" for change in machine._changes.get(key, ())):
                continue
            entry = machine._entries.get(key)
            if (entry.version if entry else machine._offset) < least:
                self.faults.append(f"{key} of {entry} is shown, after {least} was confirmed")

    def act(self) -> None:
        key, number = self.dice.choice("nxyp"), next(self.numbers)
        if key == "n":
            deed = Deed("update", key, 0, 0)
            change = self.state.update(key, lambda n: (n or 0) + 1)
        elif key == "p":
            deed = Deed("patch", key, 0, number)
            change = self.state.patch(key, {f"of {self.number}": number})
        elif self.dice.random() < 0.3:
            deed = Deed("delete", key, self.state.get(key, 0), 0)
            change = self.state.delete(key)
        else:
            deed = Deed("set", key, self.state.get(key, 0), number)
            change = self.state.set(key, number)
        self.deeds.append(deed)
        task = asyncio.create_task(self.wait(deed, change))
        self.asking.add(task)
        task.add_done_callback(self.asking.discard)

    async def wait(self, deed: Deed, change: asyncio.Future[Any]) -> None:
        try:
            changed = await change
        except OutcomeUnknown:
            deed.outcome = "unknown"
        except RequestFailed as error:
            deed.outcome = error.code
        else:
            deed.outcome, deed.offset = "done", changed.offset
            # What is not there is removed without an effect, and the offset says nothing about the key.
            if deed.kind != "delete" or deed.before:
                self.floor[deed.key] = max(self.floor.get(deed.key, 0), deed.offset)


@pytest.mark.timeout(120 + SECONDS)
async def test_nothing_is_overwritten_unseen_and_all_have_the_same_map() -> None:
    dice = random.Random(SEED)
    app = Umbel(heartbeat=1, reconnect_window=0.05, shards=2)
    # Few removals are kept, so readers that were away get all of it anew.
    app.channel("board:{x}", open=True, mode="state", publish=True, history=2)
    clients: dict[str, Client] = {}
    app.on_connect(lambda client: clients.update({client.id: client}))
    app.on_disconnect(lambda client, code, reason: clients.pop(client.id, None))
    numbers = iter(range(1, 1 << 40))
    programs = [Program(number, random.Random(dice.random()), numbers) for number in range(CLIENTS)]
    networks: list[Network] = []
    lost = 0
    async with app.serve(port=0) as server, AsyncExitStack() as stack:
        app.state(BOARD).set("p", {})
        for program in programs:
            url, network = await stack.enter_async_context(
                breaking(port_of(server), SEED + program.number, 0.05)
            )
            networks.append(network)
            umbel = await stack.enter_async_context(connect(url, limits=FAST))
            program.state = umbel.shared_state(BOARD, program.look)
        await asyncio.gather(*(program.state.ready() for program in programs))

        start = time.monotonic()
        while sum(network.cuts for network in networks) < CUTS or time.monotonic() < start + SECONDS:
            for program in programs:
                if dice.random() < 0.4 and len(program.asking) < 8:
                    program.act()
            for network in networks:
                for link in list(network.links):
                    if dice.random() < 0.02:
                        link.cut()
            if clients and dice.random() < 0.02:
                dice.choice(list(clients.values())).close(1012, "the session is over")
                lost += 1
            await asyncio.sleep(0.01)
        for network in networks:
            network.early = 0.0
        await until(lambda: not any(program.asking for program in programs), 60)
        final = {key: entry.data for key, entry in (await app.state(BOARD).items()).items()}
        await until(lambda: all(dict(program.state) == final for program in programs), 20)
        await until(lambda: not any(program.state._machine._changes for program in programs))
    judge(programs, final)
    outcomes = Counter(deed.outcome for program in programs for deed in program.deeds)
    print(f"seed {SEED}: {sum(network.cuts for network in networks)} cuts, {lost} lost sessions, {outcomes}")


def judge(programs: list[Program], final: dict[str, Any]) -> None:
    where = f"seed {SEED}"
    deeds = [deed for program in programs for deed in program.deeds]
    assert not [fault for program in programs for fault in program.faults], where
    assert {deed.outcome for deed in deeds} <= {"done", "unknown", "state_conflict"}, where
    counted = Counter(deed.outcome for deed in deeds if deed.key == "n")
    assert counted["done"] <= final.get("n", 0) <= counted["done"] + counted["unknown"], (where, counted)
    for key in "xy":
        unknown = {deed.after for deed in deeds if deed.key == key and deed.outcome == "unknown"}
        done = [deed for deed in deeds if deed.key == key and deed.outcome == "done"]
        before = 0
        for _, group in groupby(sorted(done, key=lambda deed: deed.offset), lambda deed: deed.offset):
            # One has this place. To remove what somebody else has removed is no conflict, and has the place
            # of what was last.
            those = list(group)
            right = [deed for deed in those if deed.before == before or deed.before in unknown]
            vain = all(deed.kind == "delete" for deed in those) and (not before or 0 in unknown)
            assert right or vain, (where, those, before)
            before = those[0].after
        assert final.get(key, 0) == before or final.get(key, 0) in unknown, where
    for program in programs:
        patches = [
            deed for deed in program.deeds if deed.kind == "patch" and deed.outcome != "state_conflict"
        ]
        last = max((number for number, deed in enumerate(patches) if deed.outcome == "done"), default=0)
        assert all(deed.outcome != "state_conflict" for deed in program.deeds if deed.kind == "patch"), where
        if patches:
            assert final["p"].get(f"of {program.number}") in {deed.after for deed in patches[last:]}, where

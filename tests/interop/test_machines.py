"""The machines of the two clients do the same in random histories, also in those that no server makes."""

from __future__ import annotations

import json
import os
import pathlib
import random
import subprocess
from typing import Any

from umbel.client._machine import Machine

HISTORIES = int(os.environ.get("MACHINES_HISTORIES", "500"))
SEED = int(os.environ.get("MACHINES_SEED", random.randrange(1, 1 << 30)))


def as_json(action: tuple[Any, ...]) -> Any:
    """An action as the histories have it: messages as values, and warnings without their texts."""
    if action[0] == "warn":
        return ["warn"]
    return [*action[:2], json.loads(action[2])] if action[0] == "send" else json.loads(json.dumps(action))


def test_the_machines_do_the_same() -> None:
    script = pathlib.Path(__file__).with_name("histories.mjs")
    command = ["node", str(script), str(SEED), str(HISTORIES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    states = set()
    for number, history in enumerate(json.loads(done.stdout)):
        machine = Machine(history["options"], lambda: 0.5)
        for turn, step in enumerate(history["steps"]):
            name, *arguments = step["do"]
            returned = getattr(machine, name)(step["at"], *arguments)
            actions = [as_json(action) for action in machine.actions]
            machine.actions.clear()
            found = (returned, actions, machine.deadline)
            where = f"seed {SEED}, history {number}, step {turn}: {step['do']}"
            assert found == (step["returns"], step["expect"], step["deadline"]), where
            states.add(machine.state)
    assert states == {"connecting", "connected", "waiting", "closed"}

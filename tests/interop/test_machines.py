"""The machines of the two clients do the same in random histories, also in those that no server makes."""

from __future__ import annotations

import json
import os
import pathlib
import random
import subprocess
from typing import Any

from umbel.client._machine import Machine
from umbel.client._shared_machine import SharedMachine

HISTORIES = int(os.environ.get("MACHINES_HISTORIES", "500"))
SEED = int(os.environ.get("MACHINES_SEED", random.randrange(1, 1 << 30)))


def as_json(action: tuple[Any, ...]) -> Any:
    """An action as the histories have it: messages as values, and warnings without their texts."""
    if action[0] == "warn":
        return ["warn"]
    return [*action[:2], json.loads(action[2])] if action[0] == "send" else json.loads(json.dumps(action))


def histories(script: str) -> list[Any]:
    path = pathlib.Path(__file__).with_name(script)
    command = ["node", str(path), str(SEED), str(HISTORIES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


def test_the_machines_do_the_same() -> None:
    states = set()
    for number, history in enumerate(histories("histories.mjs")):
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


def increment(value: Any) -> Any:
    """The function of updates. It fails for what is no number."""
    if not isinstance(value, int | None) or isinstance(value, bool):
        raise ValueError("no number")
    return (value or 0) + 1


def told(action: list[Any]) -> list[Any]:
    """An action as the histories have it: all errors with details, and those of functions by a word."""
    if action[0] != "reject":
        return action
    error = action[2]
    return [
        *action[:2],
        "raised" if isinstance(error, Exception) else {**error, "details": error.get("details")},
    ]


def test_the_machines_of_states_do_the_same() -> None:
    seen = set()
    for number, history in enumerate(histories("state_histories.mjs")):
        machine = SharedMachine("board:1", lambda: 0.5)
        for turn, step in enumerate(history["steps"]):
            name, *arguments = step["do"]
            if arguments[0:1] == ["update"]:
                arguments[2] = increment
            try:
                returned = getattr(machine, name)(step["at"], *arguments)
            except ValueError:
                returned = "raised"
            actions = [told(list(action)) for action in machine.actions]
            machine.actions.clear()
            found = (returned, actions, machine.deadline, machine.whole)
            where = f"seed {SEED}, history {number}, step {turn}: {step['do']}"
            assert found == (step["returns"], step["expect"], step["deadline"], step["whole"]), where
            seen |= {action[0] for action in actions}
    assert seen == {"request", "resolve", "reject", "show", "conflict"}

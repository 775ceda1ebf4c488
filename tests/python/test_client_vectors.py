"""The client machine against `clients/vectors`, which the machine of the browser client passes, too."""

import json
from typing import Any

import jsonschema
import pytest
from serving import ROOT
from umbel.client._machine import OPTIONS, Machine

VECTORS = sorted((ROOT / "clients" / "vectors").glob("*.json"))
SCHEMA = json.loads((ROOT / "docs" / "protocol.schema.json").read_text())
CHECKS = {
    kind: jsonschema.Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": SCHEMA["$defs"]})
    for kind in ("client_message", "server_message")
}


def play(vector: dict[str, Any]) -> None:
    """Play the steps of a vector, and compare what the machine does."""
    random = vector["random"]
    values = iter(random) if isinstance(random, list) else None
    machine = Machine(vector["options"], lambda: next(values) if values else random)
    for number, step in enumerate(vector["steps"], 1):
        name, *arguments = step["do"]
        if name == "received" and not isinstance(arguments[1], str):
            arguments[1] = json.dumps(arguments[1])
        returned = getattr(machine, name)(step["at"], *arguments)
        done = [as_json(action) for action in machine.actions]
        machine.actions.clear()
        assert returned == step.get("returns"), f"step {number}: {step['do']}"
        assert done == step["expect"], f"step {number}: {step['do']}"
        assert machine.deadline == step["deadline"], f"step {number}: {step['do']}"


def as_json(action: tuple[Any, ...]) -> list[Any]:
    """An action as the vectors have it: messages as values, and warnings without their texts."""
    if action[0] == "warn":
        return ["warn"]
    if action[0] == "send":
        return [*action[:2], json.loads(action[2])]
    return json.loads(json.dumps(action))


def test_there_are_vectors() -> None:
    assert VECTORS


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_the_machine_does_what_the_vectors_say(path: Any) -> None:
    play(json.loads(path.read_text()))


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_vectors_speak_the_protocol(path: Any) -> None:
    """A vector that is `broken` has messages that no server sends."""
    vector = json.loads(path.read_text())
    assert vector["about"].endswith(".")
    assert set(vector["options"]) <= set(OPTIONS)
    for step in vector["steps"]:
        if step["do"][0] == "received" and not vector.get("broken"):
            CHECKS["server_message"].validate(step["do"][2])
        for action in step["expect"]:
            if action[0] == "send":
                CHECKS["client_message"].validate(action[2])


def test_a_wrong_vector_is_noticed() -> None:
    vector = json.loads(VECTORS[0].read_text())
    vector["steps"][-1]["expect"].append(["open", 9])
    with pytest.raises(AssertionError, match="step"):
        play(vector)

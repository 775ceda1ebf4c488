"""The client machine against `clients/vectors`, which the machine of the browser client passes, too."""

import json
from typing import Any

import jsonschema
import pytest
from coming_back import begun, opened
from serving import ROOT
from umbel import Umbel
from umbel.client._machine import OPTIONS, Machine
from umbel.client._merge_patch import merge_patch
from umbel.client._shared_machine import SharedMachine

FOLDER = ROOT / "clients" / "vectors"
VECTORS = sorted(set(FOLDER.glob("*.json")) - {FOLDER / "merge_patch.json"})
STATE_VECTORS = sorted((FOLDER / "state").glob("*.json"))
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


def increment(value: Any) -> Any:
    return (value or 0) + 1


def play_state(vector: dict[str, Any]) -> None:
    """Play the steps of a vector of the machine of a state."""
    machine = SharedMachine("board:1", lambda: 0.5)
    for number, step in enumerate(vector["steps"], 1):
        name, *arguments = step["do"]
        if arguments[0:1] == ["update"]:
            arguments[2] = increment
        returned = getattr(machine, name)(step["at"], *arguments)
        done = [
            ["raised" if isinstance(value, Exception) else value for value in action]
            for action in machine.actions
        ]
        machine.actions.clear()
        assert returned == step.get("returns"), f"step {number}: {step['do']}"
        assert json.dumps(done) == json.dumps(step["expect"]), f"step {number}: {step['do']}"
        assert machine.deadline == step["deadline"], f"step {number}: {step['do']}"
        assert machine.whole == step["whole"], f"step {number}: {step['do']}"


def as_json(action: tuple[Any, ...]) -> list[Any]:
    """An action as the vectors have it: messages as values, and warnings without their texts."""
    if action[0] == "warn":
        return ["warn"]
    if action[0] == "send":
        return [*action[:2], json.loads(action[2])]
    return json.loads(json.dumps(action))


def test_there_are_vectors() -> None:
    assert VECTORS
    assert STATE_VECTORS


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


@pytest.mark.parametrize("path", STATE_VECTORS, ids=lambda path: path.stem)
def test_the_machine_of_a_state_does_what_the_vectors_say(path: Any) -> None:
    play_state(json.loads(path.read_text()))


@pytest.mark.parametrize("path", STATE_VECTORS, ids=lambda path: path.stem)
def test_vectors_of_states_speak_the_protocol(path: Any) -> None:
    for step in json.loads(path.read_text())["steps"]:
        for action in step["expect"]:
            if action[0] == "request":
                CHECKS["client_message"].validate({**action[2], "id": 1})
        if step["do"][0] == "updates":
            batch = {"type": "batched_updates", "updates": step["do"][1], "count": len(step["do"][1])}
            CHECKS["server_message"].validate({**batch, "timestamp": "2026-11-23T07:15:45.042Z"})


def said() -> tuple[list[str], list[str]]:
    """What clients say in the vectors: first on a connection, and later."""
    first, later = set[str](), set[str]()
    for path in VECTORS:
        for step in json.loads(path.read_text())["steps"]:
            for action in step["expect"]:
                if action[0] == "send":
                    is_first = action[2]["type"] in ("authenticate", "resume")
                    (first if is_first else later).add(json.dumps(action[2]))
    for path in STATE_VECTORS:
        for step in json.loads(path.read_text())["steps"]:
            later |= {json.dumps(action[2]) for action in step["expect"] if action[0] == "request"}
    return sorted(first), sorted(later)


async def test_the_server_understands_what_the_vectors_say() -> None:
    app = Umbel()
    app.channel("board:{name}", open=True, publish=True, mode="state")
    app.channel("{name:path}", open=True, publish=True)
    first, later = said()
    assert len(first) > 5
    assert len(later) > 20
    async with app.serve(port=0, max_running=100) as server:
        for text in first:
            async with opened(server) as it:
                await it.connection.send(text)
                assert (await it.hear())["type"] == "connection_established", text
        async with begun(server) as it:
            # Two vectors may use one `id` for two requests.
            for number, text in enumerate(later, 1):
                await it.connection.send(json.dumps({**json.loads(text), "id": number}))
            await it.say("heartbeat", id="last")
            while (answer := await it.hear()).get("id") != "last":
                assert answer.get("code") != "bad_message", answer


@pytest.mark.parametrize(
    "vector", json.loads((FOLDER / "merge_patch.json").read_text()), ids=lambda vector: vector["name"]
)
def test_patches_are_merged_as_the_vectors_say(vector: dict[str, Any]) -> None:
    before = json.dumps(vector)
    assert merge_patch(vector["target"], vector["patch"]) == vector["result"]
    assert json.dumps(vector) == before, "what was merged is as it was"


def test_a_wrong_vector_is_noticed() -> None:
    vector = json.loads(VECTORS[0].read_text())
    vector["steps"][-1]["expect"].append(["open", 9])
    with pytest.raises(AssertionError, match="step"):
        play(vector)
    vector = json.loads(STATE_VECTORS[0].read_text())
    vector["steps"][-1]["expect"].append(["leave"])
    with pytest.raises(AssertionError, match="step"):
        play_state(vector)

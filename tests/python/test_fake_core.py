"""The core in memory has the methods of the real one: what tests see here is what they would see there."""

import ast
from pathlib import Path

import fake_core
import pytest
import umbel
from umbel import _core


def methods(path: Path, name: str) -> dict[str, ast.arguments]:
    """The parameters of each method of a class."""
    (found,) = [
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == name
    ]
    return {node.name: node.args for node in found.body if isinstance(node, ast.FunctionDef)}


CORE = methods(Path(umbel.__file__).parent / "_core.pyi", "Core")
HANDSHAKE = methods(Path(umbel.__file__).parent / "_core.pyi", "Handshake")
FAKE = methods(Path(fake_core.__file__), "FakeCore")

OTHERWISE = {"__new__": "tests make one without a configuration"}
"""Methods that differ, and why."""


def shape(arguments: ast.arguments) -> dict[str, object]:
    """Names of the parameters, those given by position only, and defaults. Annotations may differ."""
    return {
        "by position only": [it.arg for it in arguments.posonlyargs],
        "others": [it.arg for it in arguments.args],
        "by keyword only": [it.arg for it in arguments.kwonlyargs],
        "defaults": [ast.unparse(it) for it in arguments.defaults],
        "any": [it and it.arg for it in (arguments.vararg, arguments.kwarg)],
    }


@pytest.mark.parametrize("name", [name for name in CORE if name not in OTHERWISE])
def test_every_method_of_the_core_has_the_same_parameters(name):
    assert shape(FAKE[name]) == shape(CORE[name])


def test_the_stub_has_every_method_of_the_core():
    assert {name for name in vars(_core.Core) if not name.startswith("_")} == CORE.keys() - OTHERWISE.keys()


def test_a_request_in_memory_has_the_properties_of_a_real_one():
    assert set(fake_core.FakeHandshake.__dataclass_fields__) == set(HANDSHAKE)

"""Documentation that is true: every public name has some, and every example runs."""

import ast
import doctest
import importlib
import inspect
from pathlib import Path

import pytest
import umbel
from umbel import _core

PACKAGE = Path(umbel.__file__).parent
MODULES = sorted(
    ".".join(("umbel", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path.stem != "__main__"
)


def public():
    for name in umbel.__all__:
        value = getattr(umbel, name)
        if inspect.isclass(value) and not hasattr(_core, name):
            yield name, value
            for key, member in vars(value).items():
                if not key.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                    yield f"{name}.{key}", member


@pytest.mark.parametrize(
    ("name", "value"), list(public()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_public_names_are_documented(name, value):
    assert inspect.getdoc(value), name


def test_public_classes_of_the_core_are_documented_in_its_stub():
    stub = ast.parse((PACKAGE / "_core.pyi").read_text())
    classes = {node.name: node for node in stub.body if isinstance(node, ast.ClassDef)}
    public = [name for name in umbel.__all__ if hasattr(_core, name) and not name.startswith("_")]
    assert {"Position", "Receipt", "Stats"} <= set(public)
    for name in public:
        assert ast.get_docstring(classes[name]), name
        for member in classes[name].body:
            if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and not member.name.startswith("_"):
                assert ast.get_docstring(member), f"{name}.{member.name}"


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    module = importlib.import_module(name)
    results = doctest.testmod(module, extraglobs={"Umbel": umbel.Umbel}, optionflags=doctest.ELLIPSIS)
    assert results.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    found = [test for name in MODULES for test in finder.find(importlib.import_module(name))]
    assert sum(bool(test.examples) for test in found) >= 4


def test_everything_that_may_be_raised_is_said():
    for name, value in public():
        if inspect.isfunction(value):
            raised = [
                line for line in inspect.getsource(value).splitlines() if line.strip().startswith("raise ")
            ]
            documented = "Raises:" in (inspect.getdoc(value) or "")
            assert documented or not raised, name

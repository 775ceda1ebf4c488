"""Documentation that is true: every public name has some, and every example runs."""

import ast
import doctest
import inspect
from functools import cached_property
from pathlib import Path

import pytest
import umbel
from umbel import _core, client
from umbel._clients.request import Fields

PACKAGE = Path(umbel.__file__).parent


def public():
    """The public classes and their members, those of bases too. The stub has the compiled ones."""
    every = {**vars(client), **vars(umbel)}
    for name in [*umbel.__all__, *client.__all__]:
        value = every[name]
        if inspect.isclass(value) and not hasattr(_core, name):
            yield name, value
            for base in value.__mro__:
                if base.__module__.split(".")[0] == "umbel":
                    for key, member in vars(base).items():
                        if not key.startswith("_") and (callable(member) or hasattr(member, "__get__")):
                            yield f"{name}.{key}", member


@pytest.mark.parametrize(
    ("name", "value"), list(public()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_public_names_are_documented(name, value):
    owner, _, key = name.partition(".")
    if inspect.ismemberdescriptor(value) or isinstance(value, cached_property):
        holder = getattr(umbel, owner, None) or getattr(client, owner)
        assert f"\n    {key}: " in inspect.getdoc(holder)  # among its attributes
    else:
        assert inspect.getdoc(value)


def test_inherited_members_are_looked_at():
    assert {"Umbel.channel", "Umbel.publish", "Request.headers"} <= {name for name, _ in public()}


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


def docstrings():
    """Every docstring of the package and of the stub, with the file it is in."""
    for path in sorted([*PACKAGE.rglob("*.py"), PACKAGE / "_core.pyi"]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield path.name, getattr(node, "name", "module"), ast.get_docstring(node) or ""


EXAMPLES = [
    doctest.DocTestParser().get_doctest(text, {}, name, file, None)
    for file, name, text in docstrings()
    if ">>> " in text
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_examples_in_docstrings_run(example):
    example.globs.update(vars(umbel), Fields=Fields)
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example).failed == 0


def test_there_are_examples():
    assert {"Umbel", "Identity", "Refused", "Receipt"} <= {example.name for example in EXAMPLES}


def test_everything_that_may_be_raised_is_said():
    for name, value in public():
        if inspect.isfunction(value):
            raised = [
                line for line in inspect.getsource(value).splitlines() if line.strip().startswith("raise ")
            ]
            documented = "Raises:" in (inspect.getdoc(value) or "")
            assert documented or not raised, name

import ast
import inspect
from pathlib import Path

import umbel

PACKAGE = Path(umbel.__file__).parent


def test_the_public_names_are_few_sorted_and_defined():
    assert len(umbel.__all__) <= 25
    assert sorted(umbel.__all__) == umbel.__all__
    for name in umbel.__all__:
        assert getattr(umbel, name) is not None


def test_nothing_else_looks_public():
    modules = {path.stem for path in PACKAGE.glob("*.py")} | {"demo"}
    extra = {name for name in vars(umbel) if not name.startswith("_")} - set(umbel.__all__) - modules
    assert extra == set()


def test_classes_say_where_they_are_imported_from():
    for name in umbel.__all__:
        value = getattr(umbel, name)
        if inspect.isclass(value):
            assert value.__module__.startswith("umbel.")


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()


LAYERS = [
    {"_core"},
    {"answers", "deadlines", "lifetime", "places", "printable", "stderr"},
    {"exceptions"},
    {"functions", "patterns", "auth", "settings"},
    {"client", "websocket"},
    {"jobs"},
    {"runs"},
    {"routing"},
    {"dispatch"},
    {"server"},
    {"process"},
    {"app"},
    {"cli"},
]
"""Modules from the lowest to the highest; each imports from lower layers only."""


def imports(path: Path) -> set[str]:
    """The package's modules that a module imports when it runs, not only for type checks."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
    return found - {"__version__"}


def test_modules_import_downwards_only():
    rank = {name: number for number, names in enumerate(LAYERS) for name in names}
    for name, number in rank.items():
        path = PACKAGE / f"{name}.py"
        if path.exists():
            assert all(rank[other] < number for other in imports(path)), name


def test_every_module_has_a_layer_and_a_test():
    names = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert names <= set().union(*LAYERS)
    tests = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    twins = {"routing": "app", "jobs": "dispatch"}
    assert {twins.get(name, name) for name in names} <= tests

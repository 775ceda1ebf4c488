"""The order of the package, written here and nowhere else, and what a module may know of another."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import umbel

PACKAGE = Path(umbel.__file__).parent

ORDER = [
    "_core",
    "_printable",
    "_json",
    "exceptions",
    "logs",
    "_clients",
    "presence",
    "_declaring",
    "_dispatching",
    "_serving",
    "_application",
    "resolvers",
    "__init__",
    "client",
    "testing",
    "load",
    "_command_line",
    "demo",
    "__main__",
]
"""Folders and modules of `umbel`, the lowest first: each imports from those before it only."""

FRIENDS = {
    "_clients.about": {"_handshake"},
    "_dispatching.clients": {"_handshake", "_came_back"},
    "_dispatching.entrance": {"_handshake"},
    "_dispatching.sockets": {"_received", "_drained", "_input_ended", "_closed", "_over", "_close"},
    "_dispatching.subjects": {"_verifier"},
    "_serving.server": {"_verifier", "_cookie", "_by_url"},
    "testing": {"_core", "_declared", "_claim", "_attach", "_release", "_forked"},
}
"""Private names of another module that a module may use: the events of a WebSocket and of a client, and what
a server needs of an application.
"""

TWINS = {
    "_clients.about": "test_logs",
    "_clients.port": "test_client",
    "_clients.proposal": "test_resolvers",
    "_clients.removed": "test_versions",
    "_clients.run": "test_runs",
    "_clients.identity": "test_request",
    "_command_line.loading": "test_command",
    "_command_line.options": "test_command",
    "_declaring.client_decorators": "test_application",
    "_dispatching.conflicts": "test_resolvers",
    "_declaring.declarations": "test_application",
    "_declaring.decorators": "test_application",
    "_declaring.rules": "test_application",
    "_declaring.setting_values": "test_settings",
    "client._connect": "test_client_connection",
    "client._connection": "test_client_connection",
    "client._errors": "test_client_subscription",
    "client._feed": "test_client_shared_state",
    "client._inbox": "test_client_subscription",
    "client._limits": "test_client_connection",
    "client._machine_channels": "test_client_vectors",
    "client._machine_line": "test_client_vectors",
    "client._machine_requests": "test_client_vectors",
    "client._machine_subscriptions": "test_client_vectors",
    "client._members": "test_client_presence",
    "client._merge_patch": "test_client_vectors",
    "client._run": "test_client_run",
    "client._shared_changes": "test_client_vectors",
    "client._shared_machine": "test_client_vectors",
    "client._shared_state": "test_client_shared_state",
    "client._shell": "test_client_connection",
    "client._socket": "test_client_connection",
    "client._state": "test_client_connection",
    "client._subscription": "test_client_subscription",
    "client._timer": "test_client_connection",
    "_command_line.load_plot": "test_load_display",
    "_command_line.load_rich": "test_load_display",
    "_command_line.load_values": "test_load_command",
    "_command_line.requirements": "test_load_command",
    "load._config": "test_load",
    "load._kinds": "test_load",
    "load._merge": "test_load_merge",
    "load._metrics": "test_load_metrics",
    "load._results": "test_load",
    "load._target": "test_load",
    "presence": "test_members",
    "_declaring.options": "test_settings",
    "_dispatching.presence": "test_members",
    "_dispatching.caller": "test_dispatcher",
    "_dispatching.channels": "test_dispatcher",
    "_dispatching.clients": "test_dispatcher",
    "_dispatching.entrance": "test_dispatcher",
    "_dispatching.jobs": "test_dispatcher",
    "_dispatching.messages": "test_dispatcher",
    "_dispatching.repeated": "test_mistakes",
    "_dispatching.rooms": "test_bursts",
    "_dispatching.slots": "test_dispatcher",
    "_dispatching.sockets": "test_dispatcher",
    "_dispatching.subjects": "test_credentials",
    "_dispatching.times": "test_dashboard",
}
"""Tests of modules that have none of their own name."""


def name_of(path: Path) -> str:
    """`_clients.client` for a module, `_clients.__init__` for a package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


TREES = {name_of(path): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}
STUBS = {name_of(path) for path in PACKAGE.rglob("*.pyi")}


def module_named(name: str) -> str:
    """The module that has this dotted name below `umbel`; for a folder its `__init__`."""
    if name in TREES or name in STUBS:
        return name
    inside = f"{name}.__init__" if name else "__init__"
    assert inside in TREES, name
    return inside


def imports(name: str) -> Iterator[str]:
    """The package's modules that a module imports, wherever in it: in functions and for type checks too."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
            yield from (module_named(it.partition(".")[2]) for it in modules if it.split(".")[0] == "umbel")
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                folders = name.split(".")[: -node.level]
                base = ".".join([*folders, base] if base else folders)
            elif base.split(".")[0] == "umbel":
                base = base.partition(".")[2]
            else:
                continue
            for alias in node.names:
                inner = f"{base}.{alias.name}" if base else alias.name
                known = inner in TREES or inner in STUBS
                yield inner if known else module_named(base)


def test_folders_import_only_from_those_below_them():
    def rank(name: str) -> int:
        return ORDER.index(name.split(".")[0])

    for name in TREES:
        for imported in imports(name):
            if name.split(".")[0] != imported.split(".")[0]:
                assert rank(imported) < rank(name), f"{name} imports {imported}"


def test_no_modules_import_in_a_circle():
    # What a package's `__init__` re-exports is not an import of its own.
    graph = {name: set() if name.endswith("__init__") else set(imports(name)) - {name} for name in TREES}
    left = dict(graph)
    while free := [name for name, uses in left.items() if not uses & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"a circle among {sorted(left)}"


def test_a_circle_would_be_found_in_functions_and_type_checks(monkeypatch):
    late = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .jobs import Job"
    for source in ("def f():\n    from umbel._dispatching import jobs", late):
        monkeypatch.setitem(TREES, "_dispatching.slots", ast.parse(source))
        with pytest.raises(AssertionError, match=r"_dispatching\.jobs.*_dispatching\.slots"):
            test_no_modules_import_in_a_circle()


def declared(tree: ast.Module) -> set[str]:
    """Private names that a module's classes and functions define."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and own(node):
            found.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def test_private_attributes_are_used_only_where_they_are_declared():
    for name, tree in TREES.items():
        allowed = declared(tree) | FRIENDS.get(name, set())
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not own(node):
                dunder = node.attr.endswith("__")
                assert dunder or node.attr in allowed, f"{name}:{node.lineno} uses {node.attr}"


def test_every_module_has_a_test():
    tests = {path.stem for path in Path(__file__).parent.glob("test_*.py")}
    for name in TREES:
        stem = name.rpartition(".")[2]
        if not (stem.startswith("__") or name.startswith("demo.")):
            assert TWINS.get(name, f"test_{stem.removeprefix('_')}") in tests, name
    assert set(TWINS) <= set(TREES)

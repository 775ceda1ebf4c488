"""What is said of the counters: the stub repeats the core's own documentation, for editors."""

import ast

from serving import ROOT
from umbel import _core


def words(text: str | None) -> str:
    return " ".join((text or "").split()).replace("``", "`")


def stub() -> dict[str, str]:
    """Return the documentation of each counter in the stub."""
    tree = ast.parse((ROOT / "python" / "umbel" / "_core.pyi").read_text())
    (stats,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Stats"]
    properties = [node for node in stats.body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    return {node.name: words(ast.get_docstring(node)) for node in properties}


def test_the_stub_says_of_each_counter_what_the_core_says():
    names = [
        name for name, member in vars(_core.Stats).items() if type(member).__name__ == "getset_descriptor"
    ]
    assert stub() == {name: words(getattr(_core.Stats, name).__doc__) for name in names}
    assert all(stub().values())

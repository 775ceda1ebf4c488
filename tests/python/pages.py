"""The pages of the documentation, and the examples in them."""

from __future__ import annotations

import pathlib
import re

from serving import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "ops" / "README.md",
]


def blocks(page: pathlib.Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def examples(page: pathlib.Path) -> list[str]:
    """The programs in a page. A block that does not begin with an import goes on with the one before it."""
    programs: list[str] = []
    for block in blocks(page, "python"):
        if programs and not block.startswith(("import ", "from ")):
            programs[-1] += block
        else:
            programs.append(block)
    return programs

"""What ``umbel load`` shows in a terminal, with the extra ``load``: tables."""

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from umbel.load import Snapshot


def is_there() -> bool:
    """Whether the library is installed."""
    return importlib.util.find_spec("rich") is not None


def live() -> Any:
    """Begin a table on standard error, or nothing where that is no terminal."""
    if not (sys.stderr.isatty() and is_there()):
        return None
    console = importlib.import_module("rich.console").Console(stderr=True)
    found = importlib.import_module("rich.live").Live(console=console, auto_refresh=False, transient=True)
    found.start()
    return found


def seconds(rows: Sequence[Snapshot], stages: dict[str, str]) -> Any:
    """The last seconds, one a line."""
    table = importlib.import_module("rich.table").Table(box=None, header_style="bold")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "stage" else "right")
    for row in rows[-HEIGHT:]:
        failed = f"[red]{row.failed:,}[/red]" if row.failed else "0"
        lost = f"[red]{row.lost:,}[/red]" if row.lost else "0"
        counts = [f"{each:,}" for each in (row.published, row.messages, row.frames, row.answers)]
        ages = [
            "" if each is None else f"{each:.1f}"
            for each in (row.latency_p50, row.latency_p95, row.latency_max)
        ]
        opened = [f"{row.open:,}", f"{row.connecting:,}", failed]
        table.add_row(f"{row.at:.0f}", stages[row.stage], *opened, *counts, *ages, lost)
    return table


def results(entries: Iterable[tuple[str, str]]) -> bool:
    """Write the results. False where standard output is no terminal."""
    if not (sys.stdout.isatty() and is_there()):
        return False
    table = importlib.import_module("rich.table").Table(box=None, show_header=False)
    table.add_column(style="bold")
    text = importlib.import_module("rich.text").Text
    for name, words in entries:
        table.add_row(name, text(words, style="red" if name == "fault" else ""))
    importlib.import_module("rich.console").Console().print(table)
    return True


COLUMNS: Final = (
    "second",
    "stage",
    "open",
    "opening",
    "failed",
    "published",
    "messages",
    "frames",
    "answers",
    "p50 ms",
    "p95 ms",
    "max ms",
    "lost",
)

HEIGHT: Final = 15
"""Seconds that are shown."""

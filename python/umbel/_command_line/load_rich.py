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


def seconds(rows: Sequence[Snapshot], stages: dict[str, str], width: int) -> Any:
    """The last seconds, one a line, without columns that say nothing, and without those that say least where
    the terminal is narrow.
    """
    lines = [cells(row, stages) for row in rows[-HEIGHT:]]
    shown = [at for at, _ in enumerate(COLUMNS) if any(line[at] not in {"", "0"} for line in lines)]
    widths = [2 + max(map(len, column)) for column in zip(COLUMNS, *lines, strict=True)]
    for name in LEAST:
        if sum(widths[at] for at in shown) > width:
            shown = [at for at in shown if COLUMNS[at] != name]
    table = importlib.import_module("rich.table").Table(box=None, header_style="bold")
    for at in shown:
        justify = "left" if COLUMNS[at] == "stage" else "right"
        table.add_column(COLUMNS[at], justify=justify, style="red" if COLUMNS[at] in BAD else None)
    for line in lines:
        table.add_row(*(line[at] for at in shown))
    return table


def cells(row: Snapshot, stages: dict[str, str]) -> list[str]:
    counts = [row.open, row.connecting, row.failed, row.lost]
    counts += [row.published, row.messages, row.frames, row.answers]
    ages = [row.latency_p50, row.latency_p95, row.latency_max]
    return [
        f"{row.at:.0f}",
        stages[row.stage],
        *(f"{each:,}" for each in counts),
        *("" if each is None else f"{each:.1f}" for each in ages),
    ]


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
    "lost",
    "published",
    "messages",
    "frames",
    "answers",
    "p50 ms",
    "p95 ms",
    "max ms",
)
LEAST: Final = ("frames", "p50 ms", "max ms", "published", "opening")
"""Columns that are left out first."""

BAD: Final = ("failed", "lost")

HEIGHT: Final = 15
"""Seconds that are shown."""

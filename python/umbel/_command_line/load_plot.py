"""``umbel load --plot``: a picture of the seconds of a load, with the extra ``plot``."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from umbel.load import LoadResults, Snapshot


def figure(path: str) -> Any:
    """An empty picture, so that what is missing is said before the load.

    Raises:
        ValueError: if the library is not installed, or can't write such a file there.
    """
    try:
        found = importlib.import_module("matplotlib.figure").Figure(figsize=(9, 7), layout="constrained")
    except ImportError:
        msg = "--plot needs matplotlib: pip install 'umbel[plot]'"
        raise ValueError(msg) from None
    kinds = found.canvas.get_supported_filetypes()
    if Path(path).suffix.lstrip(".") not in kinds:
        msg = f"--plot writes {', '.join(sorted(kinds))}; the name {path!r} ends in none of them"
        raise ValueError(msg)
    if not Path(path).absolute().parent.is_dir():
        msg = f"--plot can't write {path}: there is no such folder"
        raise ValueError(msg)
    return found


def plot(found: LoadResults, picture: Any, path: str) -> None:
    """Draw connections, messages and latency over time.

    Raises:
        OSError: if the file can't be written.
    """
    rows = found.seconds
    axes = picture.subplots(3, 1, sharex=True)
    picture.suptitle(f"{found.scenario}, {found.target}", parse_math=False)
    for axis, (title, lines) in zip(axes, PANELS.items(), strict=True):
        axis.set_ylabel(title)
        for name, field in lines.items():
            axis.plot([row.at for row in rows], values(rows, field), label=name, marker=".")
        axis.set_ylim(bottom=0)
        axis.grid(visible=True, alpha=0.3)
        axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
        measured = [row.at for row in rows if row.stage == "measured"]
        if measured:
            axis.axvspan(measured[0] - 1, measured[-1], alpha=0.08)
    axes[-1].set_xlabel("seconds; what is tinted was measured")
    picture.savefig(path)


def values(rows: Sequence[Snapshot], field: str) -> list[float]:
    """One figure of each second; what was not measured leaves a hole."""
    return [float("nan") if (value := getattr(row, field)) is None else value for row in rows]


PANELS: Final = {
    "connections": {"open": "open", "on their way": "connecting", "failed so far": "failed"},
    "per second": {
        "messages": "messages",
        "frames": "frames",
        "answers": "answers",
        "published": "published",
    },
    "latency, ms": {"p50": "latency_p50", "p95": "latency_p95", "greatest": "latency_max"},
}
"""What is drawn: titles, and lines with their fields."""

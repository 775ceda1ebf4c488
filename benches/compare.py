"""Compares the server of this checkout with that of another one, row by row and in turn.

Examples::

    make bench-compare BASE=../other
    make bench-compare BASE=../other TURNS=1 ROWS="connects requests"
    python benches/compare.py --short                  # each figure once, tiny: does it still work?

Both servers are built for release, each in the target of its checkout. The load, the floor program and the
programs that serve are those of this checkout, for both. Results go to ``results/compare-<date>.md``.

Exit status: 0 when every measurement was valid, whatever the ratios; 1 otherwise.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from figures import FIGURES, Figure, geometric_mean
from harness import EFFORTS, ROOT, Answer, Bench, build_floor, machine, raise_descriptor_limit
from processes import HERE, BenchError

SIDES = ("this", "other")


@dataclass
class Outcome:
    """What was measured of one row: per turn, one value for each side."""

    figure: Figure
    values: dict[str, list[float]] = field(default_factory=lambda: {side: [] for side in SIDES})
    faults: list[str] = field(default_factory=list)

    def add(self, this: float, other: float) -> None:
        self.values["this"].append(this)
        self.values["other"].append(other)

    def ratios(self) -> list[float]:
        """Per turn, how many times better this checkout is than the other."""
        pairs = zip(self.values["this"], self.values["other"], strict=True)
        return [this / other if self.figure.more_is_better else other / this for this, other in pairs]


def main() -> int:
    options = arguments()
    raise_descriptor_limit()
    if (os.cpu_count() or 1) < 2:
        print("two cores are needed: one for the server, one for the load", file=sys.stderr)
        return 2
    rows = options.rows or list(FIGURES)
    if options.base is None:
        return try_out(Bench(EFFORTS["short"], build_floor()), rows)
    checkouts = {"this": ROOT, "other": options.base.resolve()}
    floor = build_floor()
    # What is measured once for both, such as the floor's pace, is in the memo.
    memo: dict[str, Any] = {}
    benches = {side: Bench(EFFORTS["compare"], floor, memo=memo) for side in SIDES}
    for side, bench in benches.items():
        print(f"building {checkouts[side]}", flush=True)
        bench.package = build(checkouts[side], ROOT / "target/compare" / side)
    about = machine()
    about["commits"] = {side: commit(checkouts[side]) for side in SIDES}
    began = time.monotonic()
    outcomes = measure(benches, rows, options.turns)
    text = table(about, outcomes, options.turns, time.monotonic() - began)
    write(HERE / "results", about, benches, outcomes, text)
    print("\n" + text)
    return 1 if any(outcome.faults for outcome in outcomes.values()) else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare this checkout's server with another one's.")
    parser.add_argument("rows", nargs="*", metavar="row", help=f"of {', '.join(FIGURES)} (default: all)")
    parser.add_argument("--turns", type=int, default=5, help="how often each row is measured on both sides")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--base", type=Path, help="directory of the other checkout")
    what.add_argument("--short", action="store_true", help="measure nothing: does each figure still work?")
    options = parser.parse_args()
    unknown = [name for name in options.rows if name not in FIGURES]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}")
    return options


def try_out(bench: Bench, rows: list[str]) -> int:
    """Takes each figure once, tiny, from the package that is installed.

    One that failed beside others gets a try alone.
    """
    with ThreadPoolExecutor(bench.effort.together) as pool:
        first = list(pool.map(partial(tried, bench), rows))
    return (
        1
        if [name for name, works in zip(rows, first, strict=True) if not works and not tried(bench, name)]
        else 0
    )


def tried(bench: Bench, name: str) -> bool:
    """Takes one figure. Returns whether that was possible."""
    try:
        value = FIGURES[name].measure(bench)
    except BenchError as error:
        print(f"{name:18} not valid: {error}", flush=True)
        return False
    print(f"{name:18} {written(value):>12} {FIGURES[name].unit}", flush=True)
    return True


def build(checkout: Path, place: Path) -> Path:
    """Builds a wheel of a checkout and unpacks it, so that its sources may change while it is measured."""
    shutil.rmtree(place, ignore_errors=True)
    maturin = Path(sys.executable).parent / "maturin"
    command = [str(maturin), "build", "--release", "--locked", "--quiet", "--out", str(place)]
    environment = os.environ | {"VIRTUAL_ENV": sys.prefix, "CARGO_TARGET_DIR": str(target(checkout))}
    subprocess.run(command, cwd=checkout, check=True, env=environment)
    (wheel,) = place.glob("umbel-*.whl")
    package = place / "package"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(package)
    return package


def target(checkout: Path) -> Path:
    """Where a checkout's build goes; ``CARGO_TARGET_DIR`` is for this one alone."""
    named = os.environ.get("CARGO_TARGET_DIR")
    return Path(named) if named and checkout == ROOT else checkout / "target"


def commit(checkout: Path) -> str:
    """Names the commit of a checkout, with ``-dirty`` when files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=9"]
    found = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    return found.stdout.strip() or "?"


def measure(benches: dict[str, Bench], rows: list[str], turns: int) -> dict[str, Outcome]:
    """Measures all rows once per turn. The side that goes first changes with each turn."""
    outcomes = {name: Outcome(FIGURES[name]) for name in rows}
    for turn in range(turns):
        order = SIDES if turn % 2 == 0 else SIDES[::-1]
        for name, outcome in outcomes.items():
            began = time.monotonic()
            try:
                values = measure_pair(benches, outcome.figure, order)
            except BenchError as error:
                outcome.faults.append(f"turn {turn + 1}: {error}")
                print(f"{turn + 1}  {name:18} not valid: {error}", flush=True)
                continue
            outcome.add(**values)
            seconds = time.monotonic() - began
            print(
                f"{turn + 1}  {name:18} {written(values['this']):>12} {written(values['other']):>12} "
                f"{outcome.figure.unit:22} {outcome.ratios()[-1]:.3f}  [{seconds:.1f} s]",
                flush=True,
            )
    return outcomes


def measure_pair(benches: dict[str, Bench], figure: Figure, order: tuple[str, ...]) -> dict[str, float]:
    """Measures both sides in turn; with several windows, the order changes with each and the mean counts."""
    values: dict[str, list[float]] = {side: [] for side in SIDES}
    for window in range(figure.windows):
        for side in order if window % 2 == 0 else order[::-1]:
            values[side].append(figure.measure(benches[side]))
    return {side: geometric_mean(of_side) for side, of_side in values.items()}


def written(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def table(about: Answer, outcomes: dict[str, Outcome], turns: int, seconds: float) -> str:
    lines = [
        f"# This checkout against another one, {dt.date.today().isoformat()}",
        "",
        f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, Python {about['python']}. "
        f"This: {about['commits']['this']}. Other: {about['commits']['other']}. "
        f"{turns} turns in {seconds / 60:.0f} minutes. Ratios: more is better.",
        "",
        "| row | figure | this | other | ratio, median | range |",
        "|---|---|---|---|---|---|",
    ]
    medians = {}
    for name, outcome in outcomes.items():
        ratios = outcome.ratios()
        cells = [f"`{name}`", outcome.figure.unit, "–", "–", "–", "–"]
        if ratios:
            medians[name] = statistics.median(ratios)
            cells[2:4] = [written(statistics.median(outcome.values[side])) for side in SIDES]
            cells[4:] = [f"{medians[name]:.3f}", f"{min(ratios):.3f} to {max(ratios):.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    if medians:
        lowest = min(medians, key=lambda name: medians[name])
        mean = geometric_mean(list(medians.values()))
        lines.append(
            f"Geometric mean of {len(medians)} rows: {mean:.3f}. "
            f"Lowest median: {medians[lowest]:.3f} (`{lowest}`)."
        )
    faults = [f"- `{name}`, {fault}" for name, outcome in outcomes.items() for fault in outcome.faults]
    if faults:
        lines += ["", "Not valid, and not counted:", "", *faults]
    return "\n".join([*lines, ""])


def write(
    place: Path, about: Answer, benches: dict[str, Bench], outcomes: dict[str, Outcome], text: str
) -> None:
    """Writes the table, the figures, and every run as the load reported it."""
    (place / "raw").mkdir(parents=True, exist_ok=True)
    stem = f"compare-{dt.datetime.now():%Y-%m-%d-%H%M}"
    (place / f"{stem}.md").write_text(text)
    rows = {
        name: {"values": outcome.values, "ratios": outcome.ratios(), "faults": outcome.faults}
        for name, outcome in outcomes.items()
    }
    (place / f"{stem}.json").write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n")
    raw = {side: bench.runs for side, bench in benches.items()}
    (place / "raw" / f"{stem}.json").write_text(json.dumps(raw) + "\n")


if __name__ == "__main__":
    sys.exit(main())

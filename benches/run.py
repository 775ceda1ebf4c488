"""Measures Umbel against its goals.

Examples::

    python benches/run.py --list
    python benches/run.py --setup                      # the peers' virtual environment, once
    python benches/run.py frames-1000-128 latency-1000-10
    python benches/run.py                              # every row, about half an hour
    python benches/run.py --short                      # one row of each kind, tiny: does it all still work?

Exit status: 0 when every row could be measured and its results are valid, whatever the figures; 1 otherwise.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import EFFORTS, Answer, Bench, build_floor, install_peers, machine, raise_descriptor_limit
from measure import Result
from plot import plot
from processes import HERE, BenchError
from rows import ROWS, Row


def main() -> int:
    options = arguments()
    if options.list:
        for row in ROWS.values():
            print(f"{row.name:26} {row.what}; goal {row.goal}")
        return 0
    if options.setup:
        install_peers()
        return 0
    if options.build:
        build_floor()
        return 0
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown:
        print(f"no such row: {', '.join(unknown)} (--list shows them)", file=sys.stderr)
        return 2
    raise_descriptor_limit()
    if (os.cpu_count() or 1) < 2:
        print("two cores are needed: one for the server, one for the load", file=sys.stderr)
        return 2
    bench = Bench(EFFORTS[options.effort], build_floor(), options.subject)
    about = machine()
    chosen = [ROWS[name] for name in options.rows] or list(ROWS.values())
    if options.effort == "short" and not options.rows:
        chosen = one_of_each(chosen)
    results, failed = measure(bench, chosen)
    if options.effort != "short" or options.output:
        write(options.output or HERE / "results", about, bench, results)
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure Umbel against its goals.")
    parser.add_argument("rows", nargs="*", help="rows to measure (default: all)")
    parser.add_argument("--list", action="store_true", help="show the rows")
    parser.add_argument("--setup", action="store_true", help="install the peers into target/bench-venv")
    parser.add_argument("--build", action="store_true", help="build the floor program, and measure nothing")
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument(
        "--short", dest="effort", action="store_const", const="short", help="tiny and untimed"
    )
    effort.add_argument("--full", dest="effort", action="store_const", const="full", help="longer windows")
    parser.add_argument(
        "--subject",
        default="umbel",
        choices=["umbel", "websockets", "socketify"],
        help="measure this in Umbel's place",
    )
    parser.add_argument("--output", type=Path, help="directory of the results (default: benches/results)")
    parser.set_defaults(effort="normal")
    return parser.parse_args()


def one_of_each(rows: list[Row]) -> list[Row]:
    """The first row of each function: the others run the same code with other numbers.

    From the last to the first, because the longest are among the last, and would go on alone.
    """
    kinds: dict[object, Row] = {}
    for row in rows:
        kinds.setdefault(row.run.func if isinstance(row.run, partial) else row.run, row)
    return list(kinds.values())[::-1]


def measure(bench: Bench, rows: list[Row]) -> tuple[list[tuple[Row, Result]], bool]:
    """Runs the rows; an invalid one is reported and the others go on.

    One that failed beside others gets a try alone.
    """
    results = []
    with ThreadPoolExecutor(bench.effort.together) as pool:
        for row, (result, seconds) in zip(rows, pool.map(partial(run, bench), rows), strict=True):
            results.append((row, result))
            print(line(row, result), f"[{seconds:.1f} s]", flush=True)
    if bench.effort.together > 1:
        for index, (row, result) in enumerate(results):
            if result.figure == "ERROR":
                result, seconds = run(bench, row)
                results[index] = (row, result)
                print(line(row, result), f"[{seconds:.1f} s, alone]", flush=True)
    return results, any(result.figure == "ERROR" for _, result in results)


def run(bench: Bench, row: Row) -> tuple[Result, float]:
    """Runs one row. Returns its result, and how many seconds that took."""
    began = time.monotonic()
    try:
        result = row.run(bench)
    except BenchError as error:
        if bench.effort.name == "short" and "peers are not installed" in str(error):
            result = Result("skipped", "", None, None, str(error))
        else:
            result = Result("ERROR", "", None, False, str(error))
    return result, time.monotonic() - began


def verdict(result: Result) -> str:
    return "FAIL" if result.figure == "ERROR" else {True: "pass", False: "MISS", None: "–"}[result.passed]


def line(row: Row, result: Result) -> str:
    ratio = "" if result.ratio is None else f"{result.ratio:.3f}"
    figures = f"{result.figure:>24} | {result.against:24} × {ratio:8}"
    return f"{verdict(result):4}  {row.name:24} {figures} {row.goal}  ({result.note})"


def table(about: Answer, effort: str, results: list[tuple[Row, Result]]) -> str:
    lines = [
        f"# Benchmark results, {dt.date.today().isoformat()}",
        "",
        f"{about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB, Linux {about['kernel']}, "
        f"Python {about['python']}, {about['rustc']}, commit {about['commit']}, effort “{effort}”. "
        "Server on core 0, load on core 1, loopback.",
        "",
        "| row | what | goal | Umbel | floor or peer | ratio | verdict | notes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row, result in results:
        ratio = "" if result.ratio is None else f"{result.ratio:.3f}"
        cells = [
            f"`{row.name}`",
            row.what,
            row.goal,
            result.figure,
            result.against,
            ratio,
            verdict(result),
            result.note,
        ]
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def write(place: Path, about: Answer, bench: Bench, results: list[tuple[Row, Result]]) -> None:
    """Writes the table, the figures, every run as the load reported it, and the plots."""
    place.mkdir(parents=True, exist_ok=True)
    stem = dt.datetime.now().strftime("%Y-%m-%d-%H%M")
    text = table(about, bench.effort.name, results)
    (place / f"{stem}.md").write_text(text)
    rows = {row.name: {"goal": row.goal, **asdict(result)} for row, result in results}
    content = {"machine": about, "effort": bench.effort.name, "subject": bench.subject, "rows": rows}
    (place / f"{stem}.json").write_text(json.dumps(content, indent=1) + "\n")
    raw = place / "raw"
    raw.mkdir(exist_ok=True)
    (raw / f"{stem}.json").write_text(json.dumps(bench.runs) + "\n")
    for row, result in results:
        if result.curves:
            unit = row.name.partition("-")[2]
            (place / f"{stem}-{row.name}.svg").write_text(
                plot(row.what, unit, "µs of server CPU", result.curves)
            )
    print()
    print(text)


if __name__ == "__main__":
    sys.exit(main())

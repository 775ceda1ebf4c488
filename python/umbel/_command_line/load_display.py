"""What ``umbel load`` shows."""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Final, Self

from umbel._serving import stderr
from umbel.load import Latency, Load, LoadResults, Snapshot

from . import load_rich
from .requirements import requirement


def add_options(command: argparse.ArgumentParser) -> None:
    """Add what is done with results."""
    command.add_argument(
        "--require",
        action="append",
        default=[],
        type=requirement,
        metavar="TEXT",
        help="what has to be so, as in 'p95<100ms' or 'lost==0'; repeated",
    )
    command.add_argument("--json", action="store_true", help="write the results as JSON to standard output")


def conclude(results: LoadResults, parsed: argparse.Namespace) -> int:
    """Write results, and say which requirements they miss. Returns the exit code."""
    stderr.handler().flush()  # the seconds come first, where both go to one place
    if parsed.json:
        write(json.dumps(results.to_json(), indent=2))
    else:
        entries = list(table(results))
        if not load_rich.results(entries):
            write("\n".join(f"{name:<22} {text}" for name, text in entries))
    lacking = nothing(results) if results.complete else None
    if lacking:
        say(f"umbel: nothing was measured: {lacking}")
    missed = [each for each in parsed.require if not each.holds(results)]
    for each in missed:
        say(f"missed: {each.text}, but {each.found(results)}")
    stderr.handler().flush()
    if lacking or not results.complete:
        return NOT_MEASURED
    return MISSED if missed else 0


def nothing(found: LoadResults) -> str | None:
    """Why there is nothing to judge, though all was done."""
    if found.scenario == "request":
        return None if found.answers else "no request was answered"
    if found.scenario == "ramp" or found.messages:
        return None
    return "no message came. Where none has to come: --scenario ramp"


class Screen:
    """What happens while a load runs."""

    def __init__(self, run: Load) -> None:
        """Show nothing yet."""
        self._run = run
        self._shown = 0
        self._live = load_rich.live()

    def __enter__(self) -> Self:
        """Show it until the end of a block."""
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self) -> None:
        """Write what was said, and what happened in each second that was not shown yet."""
        for each in self._run.conversation():
            self._say(each)
        rows = self._run.snapshots()
        if self._live is None:
            for row in rows[self._shown :]:
                say(line(row))
        elif len(rows) > self._shown:
            self._live.update(load_rich.seconds(rows, STAGES, self._live.console.width), refresh=True)
        self._shown = len(rows)

    def _say(self, text: str) -> None:
        if self._live is None:
            say(text)
        else:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)


def line(row: Snapshot) -> str:
    parts = [f"{row.at:6.1f} s  {STAGES[row.stage]:<9} {row.open:>7,} open"]
    if row.connecting or row.failed:
        parts.append(f"{row.connecting:,} on their way, {row.failed:,} failed")
    if row.published or row.messages:
        parts.append(f"{row.published:,} published, {row.messages:,} messages in {row.frames:,} frames")
    if row.answers:
        parts.append(f"{row.answers:,} answers")
    if row.latency_p95 is not None:
        parts.append(f"p95 {row.latency_p95:.1f} ms")
    if row.lost:
        parts.append(f"{row.lost:,} lost")
    return ", ".join(parts)


def table(found: LoadResults) -> Iterator[tuple[str, str]]:
    """The results, for reading."""
    yield "", ""
    yield ("target", f"{found.target}, {found.scenario}" + ("" if found.complete else " (cut short)"))
    failed = ", ".join(f"{count:,} {reason}" for reason, count in found.failures_by_reason.items())
    yield (
        "connections",
        f"{found.max_concurrent_connections:,} at once, {found.connection_failures:,} failed",
    )
    if failed:
        yield ("", failed)
    yield from latency("to connect", found.connect)
    if found.published:
        late = f", up to {found.lateness.max:.1f} ms late" if found.lateness else ""
        sure = f", {found.confirmed:,} of them confirmed" if found.confirmed is not None else ""
        yield ("published", f"{found.published:,}{sure}{late}")
    if found.messages:
        sign = "≥ " if found.is_busy else ""
        yield (
            "messages",
            f"{sign}{found.messages_per_second:,.0f}/s in {sign}{found.frames_per_second:,.0f} frames/s",
        )
        yield ("bytes", f"{sign}{found.bytes_per_second:,.0f}/s")
    yield from latency("delivery", found.latency)
    yield from latency("to answer", found.answer)
    yield from latency("cut to caught up", found.recovery)
    if found.recovery:
        yield ("", f"{found.recovery.count:,} times")
    if found.answers:
        yield ("answers", f"{found.answers_per_second:,.0f}/s")
    if found.success_rate is not None:
        yield ("received of due", f"{found.success_rate:.4%}")
    yield ("lost", f"{found.lost:,} in {found.gaps:,} gaps")
    if found.slow_closed is not None:
        yield ("slow readers", f"{found.slow_closed:,} were closed by the server")
    yield ("error rate", f"{found.error_rate:.4%}")
    for reason, count in found.faults.items():
        yield ("fault", reason if count == 1 else f"{reason} ({count:,} times)")
    if found.accounted_rate is not None:
        yield ("by the server", f"{found.accounted_rate:.4%} of due delivered or announced")
    if found.server_cpu_percent is not None:
        each = (
            f", {found.server_cpu_us_per_message:.2f} µs per message"
            if found.server_cpu_us_per_message
            else ""
        )
        yield ("server", f"{found.server_cpu_percent:.1f} % of a processor{each}")
    if found.server_bytes_per_connection is not None:
        yield ("", f"{found.server_bytes_per_connection / 1024:.2f} KiB per connection")
    busy = ": it may be the limit, the server may do more" if found.is_busy else ""
    yield ("this load", f"{found.load_cpu_percent:.0f} % of a processor{busy}")
    yield ("took", f"{found.duration:.1f} s")


def latency(name: str, found: Latency | None) -> Iterator[tuple[str, str]]:
    if found is not None:
        figures = {name: getattr(found, name) for name in ("mean", "p50", "p95", "p99", "max")}
        yield name, f"{', '.join(f'{each} {time:.1f}' for each, time in figures.items())} ms"


def write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    stderr.handler().write(text)


MISSED, NOT_MEASURED = 1, 3
"""Exit codes."""

STAGES: Final = {
    "rampUp": "ramp up",
    "ready": "ready",
    "warmUp": "warm up",
    "measured": "measured",
    "drain": "drain",
    "rampDown": "ramp down",
    "done": "done",
}

"""Adds up what several loads have found."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any, Final

from ._results import LATENCIES, Latency, LoadResults


def merge(several: Sequence[LoadResults]) -> LoadResults:
    """Add up what several loads, of processes or machines, have found at the same time. What happened in each
    second, and the memory and the counters of the server, are left out.

    Raises:
        ValueError: if there is none, or they have done different things.
    """
    scenarios = sorted({each.scenario for each in several})
    if len(scenarios) != 1:
        msg = f"results of the same scenario can be added up, not {' and '.join(scenarios) or 'none'}"
        raise ValueError(msg)
    first = several[0]
    sums = {name: sum(getattr(each, name) for each in several) for name in SUMMED}
    most = {name: max(getattr(each, name) for each in several) for name in GREATEST}
    due = [each.due for each in several if each.due is not None]
    confirmed = [each.confirmed for each in several if each.confirmed is not None]
    closed = [each.slow_closed for each in several if each.slow_closed is not None]
    cpu = max((each.server_cpu_percent or 0.0 for each in several), default=0.0) or None
    latencies: dict[str, Any] = {name: added(several, name) for name in LATENCIES}
    merged = replace(
        first,
        **sums,
        **most,
        **latencies,
        target=", ".join(dict.fromkeys(each.target for each in several)),
        complete=all(each.complete for each in several),
        failures_by_reason=counts([each.failures_by_reason for each in several]),
        faults=counts([each.faults for each in several]),
        confirmed=sum(confirmed) if confirmed else None,
        due=sum(due) if len(due) == len(several) else None,
        slow_closed=sum(closed) if closed else None,
        server_cpu_percent=cpu,
        server_bytes_per_connection=None,
        server_counters={},
        accounted_rate=None,
        seconds=(),
        histograms={name: buckets(several, name) for name in LATENCIES},
    )
    return replace(
        merged,
        average_latency=merged.latency.mean if merged.latency else None,
        success_rate=merged.messages / merged.due if merged.due else None,
        error_rate=sum(each.error_rate * each.tried for each in several) / (merged.tried or 1),
        server_cpu_us_per_message=round(cpu * 1e4 / merged.messages_per_second, 3)
        if cpu and merged.messages_per_second
        else None,
    )


def counts(several: Sequence[Mapping[str, int]]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for each in several:
        found.update(each)
    return dict(found)


def buckets(several: Sequence[LoadResults], name: str) -> list[list[int]]:
    found: Counter[int] = Counter()
    for each in several:
        for number, count in each.histograms.get(name, ()):
            found[number] += count
    return [[number, found[number]] for number in sorted(found)]


def added(several: Sequence[LoadResults], name: str) -> Latency | None:
    """One latency of all, from its buckets."""
    known: list[Latency] = [part for each in several if (part := getattr(each, name)) is not None]
    count = sum(part.count for part in known)
    if not count:
        return None
    longest = max(part.max for part in known)
    found = buckets(several, name)

    def quantile(share: float) -> float:
        rank, seen = max(1, ceil(count * share)), 0
        for number, here in found:
            seen += here
            if seen >= rank:
                return min(round(middle(number) / 1e6, 3), longest)
        return longest

    mean = round(sum(part.mean * part.count for part in known) / count, 3)
    return Latency(count, mean, quantile(0.5), quantile(0.95), quantile(0.99), quantile(0.999), longest)


def middle(number: int) -> int:
    """Nanoseconds in the middle of a bucket: there are 64 for each power of two (src/load/histogram.rs)."""
    octave, sub = divmod(number, 64)
    return ((64 + sub) << (octave - 1)) + ((1 << (octave - 1)) >> 1) if octave else sub


SUMMED: Final = (
    "max_concurrent_connections",
    "connection_attempts",
    "connection_failures",
    "published",
    "frames_per_second",
    "messages_per_second",
    "bytes_per_second",
    "messages",
    "lost",
    "gaps",
    "answers",
    "answers_per_second",
    "tried",
)
GREATEST: Final = ("duration", "window", "load_cpu_percent")

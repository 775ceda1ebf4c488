"""How long functions take, while somebody looks at the dashboard."""

from heapq import nlargest
from typing import Final

Times = dict[str, list[float]]
"""For the name of each function: how often it has ended, the seconds of that, and those of the longest."""

Slow = tuple[str, int, float, float]


def note(times: Times, name: str, seconds: float) -> None:
    """Count one call. The names are those of declared functions, so there are not many."""
    known = times.get(name)
    if known is None:
        times[name] = [1, seconds, seconds]
        return
    known[0] += 1
    known[1] += seconds
    if seconds > known[2]:
        known[2] = seconds


def slowest(times: Times) -> list[Slow]:
    """Return the functions that took most time, the first first."""
    most = nlargest(MOST, times.items(), key=lambda item: item[1][1])
    return [(name, int(calls), seconds, longest) for name, (calls, seconds, longest) in most]


MOST: Final = 10
"""Functions that are shown."""

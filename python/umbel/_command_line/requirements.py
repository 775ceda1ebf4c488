"""What the results of a load have to be: ``p95<100ms``, ``lost==0``."""

import argparse
import difflib
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from umbel.load import Latency, LoadResults

COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}

UNITS: Final = {"": 1.0, "ms": 1.0, "s": 1000.0, "%": 0.01}
"""Times are compared in milliseconds, rates and shares as they are."""

STATISTICS: Final = ("mean", "p50", "p95", "p99", "p999", "max")

LATENCIES: Final[dict[str, Callable[[LoadResults], Latency | None]]] = {
    "": lambda found: found.latency,
    "connect.": lambda found: found.connect,
    "answer.": lambda found: found.answer,
    "recovery.": lambda found: found.recovery,
}


def statistic(latency: str, name: str) -> Callable[[LoadResults], float | None]:
    def read(results: LoadResults) -> float | None:
        found = LATENCIES[latency](results)
        return None if found is None else float(getattr(found, name))

    return read


FIGURES: Final[dict[str, Callable[[LoadResults], float | None]]] = {
    **{prefix + name: statistic(prefix, name) for prefix in LATENCIES for name in STATISTICS},
    "connections": lambda found: found.max_concurrent_connections,
    "failures": lambda found: found.connection_failures,
    "errors": lambda found: found.error_rate,
    "success": lambda found: found.success_rate,
    "accounted": lambda found: found.accounted_rate,
    "lost": lambda found: found.lost,
    "gaps": lambda found: found.gaps,
    "faults": lambda found: sum(found.faults.values()),
    "messages": lambda found: found.messages_per_second,
    "frames": lambda found: found.frames_per_second,
    "answers": lambda found: found.answers_per_second,
}
"""Words for figures. Those without a prefix are of the delivery; rates are per second."""


SHARES: Final = ("errors", "success", "accounted")


@dataclass(frozen=True)
class Requirement:
    """One comparison of a figure with a number."""

    text: str
    figure: str
    comparison: str
    number: float

    @classmethod
    def of(cls, text: str) -> Self:
        """Read one.

        Raises:
            ValueError: if it is none; the message says what is possible.
        """
        match = re.fullmatch(r"\s*([\w.]+)\s*(<=|>=|==|<|>)\s*([0-9.]+)\s*(ms|s|%|)\s*", text)
        if match is None:
            msg = f"{text!r} is no requirement; 'p95<100ms', 'lost==0' and 'errors<0.1%' are"
            raise ValueError(msg)
        figure, comparison, number, unit = match.groups()
        if figure not in FIGURES:
            near = difflib.get_close_matches(figure, FIGURES, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(FIGURES)}"
            msg = f"{text!r}: there is no figure {figure!r}{hint}"
            raise ValueError(msg)
        return cls(text.strip(), figure, comparison, float(number) * UNITS[unit])

    def holds(self, results: LoadResults) -> bool:
        """Whether it is so. What was not measured does not hold."""
        found = FIGURES[self.figure](results)
        return found is not None and COMPARISONS[self.comparison](found, self.number)

    def found(self, results: LoadResults) -> str:
        """What was found instead."""
        found = FIGURES[self.figure](results)
        if found is None:
            return "it was not measured"
        if self.figure.rpartition(".")[2] in STATISTICS:
            return f"it is {found:g} ms"
        return f"it is {found:.4%}" if self.figure in SHARES else f"it is {found:g}"


def requirement(text: str) -> Requirement:
    """Read a requirement of the command line."""
    try:
        return Requirement.of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None

"""Checks values of settings against their types and ranges."""

import math
from collections.abc import Sequence
from typing import Final


def check(name: str, kind: str, value: object) -> None:
    """Check one value against the annotation of its field, as text."""
    if value is None and "None" in kind:
        return
    base = kind.removesuffix(" | None")
    if base == "bool":
        good = isinstance(value, bool)
    elif base == "int":
        good = isinstance(value, int) and not isinstance(value, bool)
    elif base == "float":
        good = isinstance(value, int | float) and not isinstance(value, bool)
    elif base == "str":
        good = isinstance(value, str)
    elif isinstance(value, str):
        good = "Literal" in kind
    else:
        good = isinstance(value, Sequence) and all(isinstance(item, str) for item in value)
    if isinstance(value, str) and base.startswith("Sequence") and not good:
        raise TypeError(f'{name} is a list: write {name}=["{value}"]')
    if not good:
        raise TypeError(f"{name} must be {kind}, not {type(value).__name__}")
    if isinstance(value, int | float):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a finite number of at least 0, not {value}")
        least, most = RANGES.get(name, (0, LONGEST if base == "float" else LARGEST))
        if not least <= value <= most:
            raise ValueError(f"{name} must be {least} to {most}, not {value}")


LARGEST: Final = (1 << 63) - 1
LONGEST: Final = 1_000_000_000
"""Seconds: thirty years. Clocks can add that."""

RANGES: Final = {
    "port": (0, 65_535),
    "backlog": (1, (1 << 31) - 1),
    "deflate_window": (9, 15),
    "max_messages_per_second": (0, (1 << 32) - 1),
}
"""Ranges of numbers that the core holds in fewer bits. It checks the others."""

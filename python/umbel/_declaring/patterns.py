"""Patterns of channel names and websocket paths.

Only the core matches names. Here a pattern is checked and its parameters are read, so that a mistake is found
at the line that makes it, and not when the first client connects.
"""

import re
from collections.abc import Iterator
from typing import Final

from umbel._core import NAME_BYTES
from umbel.exceptions import ConfigurationError


def parameters(pattern: str) -> tuple[str, ...]:
    """Return the names of a pattern's parameters, in their order.

    ``{name}`` matches one or more characters other than the separator (``:`` in channels, ``/`` in paths).
    ``{name:path}`` matches anything.

    Raises:
        ConfigurationError: if the pattern can't be read, or has two parameters with nothing between them.
    """
    if not pattern or len(pattern.encode()) > NAME_BYTES:
        raise ConfigurationError(f"pattern {pattern!r} must have 1 to {NAME_BYTES} bytes")
    if any(ord(character) < 32 or ord(character) == 127 for character in pattern):
        raise ConfigurationError(f"pattern {pattern!r} has a control character")
    names: list[str] = []
    end = -1
    for found in PARAMETER.finditer(pattern):
        name, kind = found["name"], found["kind"]
        if not (name.isidentifier() and name.isascii()):
            raise ConfigurationError(
                f"pattern {pattern!r}: {name!r} is not a name; write {{name}} or {{name:path}}"
            )
        if kind not in (None, "path"):
            raise ConfigurationError(f"pattern {pattern!r}: {kind!r} is not known; only {{{name}:path}} is")
        if name in names:
            raise ConfigurationError(f"pattern {pattern!r} has the parameter {name!r} twice")
        if found.start() == end:
            raise ConfigurationError(f"pattern {pattern!r} needs a character between its parameters")
        names.append(name)
        end = found.end()
    if re.search(r"[{}]", PARAMETER.sub("", pattern)):
        raise ConfigurationError(f"pattern {pattern!r} has a brace without its partner")
    return tuple(names)


def covers(pattern: str, other: str, separator: str) -> bool:
    """Whether a pattern matches everything that another one matches. Both can be read.

    The parameters of the other one are filled with a character that no pattern has. So only parameters take
    it, and they would take any other text with as many separators.
    """
    expression = re.compile(
        "".join(
            (f"[^{separator}]+" if part["kind"] is None else ".*") if part else re.escape(text)
            for text, part in pieces(pattern)
        ),
        re.DOTALL,
    )
    fillings = ("", FILLING, f"{FILLING}{separator}{FILLING}")
    return all(
        expression.fullmatch(
            "".join(
                (FILLING if part["kind"] is None else filling) if part else text
                for text, part in pieces(other)
            )
        )
        for filling in fillings
    )


def pieces(pattern: str) -> Iterator[tuple[str, re.Match[str] | None]]:
    """Yield the literal texts and the parameters of a pattern, in their order."""
    end = 0
    for found in PARAMETER.finditer(pattern):
        yield pattern[end : found.start()], None
        yield "", found
        end = found.end()
    yield pattern[end:], None


FILLING: Final = "\ue000"
"""A private character of Unicode."""

PARAMETER: Final = re.compile(r"\{(?P<name>[^{}:]*)(?::(?P<kind>[^{}]*))?\}")

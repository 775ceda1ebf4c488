"""Whether a value is of the type that its field has: values come from files, too."""

import math
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Final, Literal, get_args, get_origin


def fits(value: object, kind: Any) -> bool:
    """Whether a value is of this type, as far as a configuration has such types."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in parts
    if origin is UnionType:
        return any(fits(value, part) for part in parts)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            fits(key, parts[0]) and fits(each, parts[1]) for key, each in value.items()
        )
    if origin in (Sequence, tuple):
        if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
            return False
        kinds = parts if origin is tuple else parts * len(value)
        return len(kinds) == len(value) and all(map(fits, value, kinds))
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def words(kind: Any) -> str:
    """What a type is called."""
    if get_origin(kind) is UnionType:
        return words(get_args(kind)[0])
    return WORDS[kind] if kind in WORDS else f"one of {', '.join(get_args(kind))}"


WORDS: Final = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Mapping[str, str]: "a table of texts",
    Sequence[str]: "a list of texts",
    Sequence[tuple[int, float]]: "a list of pairs, a whole number and seconds, as in [[100, 10.0]]",
}

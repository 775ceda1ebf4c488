"""What takes the place of a value where there is none."""

from typing import Final, final


@final
class Removed:
    """The class of `REMOVED`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "REMOVED"


REMOVED: Final = Removed()
"""No value: what `State.update` and a function that resolves conflicts return to remove an entry, and what
the latter sees where nothing is.
"""

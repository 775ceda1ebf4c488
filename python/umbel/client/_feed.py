"""What the live maps of the application are told."""

from collections.abc import Callable
from typing import Any


class Feed:
    """What the shell tells of a subscription that is read at once.

    Attributes:
        key: the number of the subscription in the machine.
    """

    def __init__(
        self, channel: str, do: Callable[..., None], finish: Callable[[dict[str, Any]], None]
    ) -> None:
        self.channel = channel
        self.key: int | None = None
        self._do = do
        self.finish = finish

    def begin(self, detail: dict[str, Any]) -> None:
        self._do("begun", detail)

    def put(self, updates: list[Any], size: int) -> bool:
        self._do("updates", updates)
        return True

    def put_gap(self, gap: dict[str, Any]) -> None:
        self._do("gap", gap)

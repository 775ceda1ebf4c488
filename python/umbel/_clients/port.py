"""What clients and websockets need of their server."""

from typing import Protocol

from umbel._core import Core


class Port(Protocol):
    """The way to the core, one for all clients of a server. In a forked child its core refuses every use."""

    core: Core

    async def wait_room(self, number: int) -> None:
        """Wait until a client has taken most of what was sent to it, or is gone."""

    def close(self, number: int, code: int, reason: str) -> bool:
        """Close a client, and drop its messages that wait for their turn; ``False`` when it is gone."""

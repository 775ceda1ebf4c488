"""What happens to servers when the process forks or ends.

The threads of the core never touch the interpreter, so they can't crash or hang while it ends. But they would
go on serving meanwhile. A forked child has none of these threads. There a server is only memory and
descriptors, which would keep its port taken and its connections open as long as the child lives.
"""

import atexit
import contextlib
import os
import socket
from collections.abc import Iterable
from typing import Any, NoReturn, Protocol
from urllib.parse import urlsplit
from weakref import WeakSet

from umbel._core import Core


class Holder(Protocol):
    """A server, as this module sees it."""

    addresses: tuple[str, ...]
    admin_url: str | None
    _core: Core | None

    def _forked(self) -> None:
        """Make every use fail: this is a child process."""


class ForkedCore:
    """Takes the place of the core in a forked child."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(FORKED)


def forked_core(*arguments: Any) -> NoReturn:
    """Takes the place of a method of the core in a forked child.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(FORKED)


def stop_all() -> None:
    """Stop the cores that are still alive when the interpreter ends."""
    cores = [core for holder in alive if (core := holder._core)]
    for core in cores:
        core.stop(0.0)
    for core in cores:
        core.join(EXIT_TIME)


def after_fork() -> None:
    """Make the servers of the parent inert in the child."""
    for holder in list(alive):
        # The child must never drop the core: it would wait for threads that do not exist here.
        if holder._core is not None:
            abandoned.append(holder._core)
        close_copies([*holder.addresses, *([holder.admin_url] if holder.admin_url else [])])
        holder._forked()
    alive.clear()


def close_copies(addresses: Iterable[str]) -> None:
    """Close this process's copies of the sockets that listen at these addresses or were accepted there. Those
    of the parent stay open.
    """
    ours = [local_name(address) for address in addresses]
    for name in os.listdir("/dev/fd"):
        # What is not a socket is not ours. What was open only for this listing is closed.
        with contextlib.suppress(OSError):
            copy = socket.socket(fileno=int(name))
            try:
                local = copy.getsockname()
                mine = any(matches(own, local) for own in ours)
            except OSError:
                mine = False
            if mine:
                copy.close()
            else:
                copy.detach()


def local_name(address: str) -> str | tuple[str, int]:
    """Return the path, or the host and port, of an address in `Server.addresses`."""
    if address.startswith("unix:"):
        return address.removeprefix("unix:")
    parts = urlsplit(address)
    return parts.hostname or "", parts.port or 0


def matches(own: str | tuple[str, int], local: Any) -> bool:
    """Whether a socket with this local name listens at an address or was accepted there."""
    if isinstance(own, str) or not isinstance(local, tuple):
        return bool(own == local)
    host, port = own
    return bool(local[1] == port) and host in (local[0], "0.0.0.0", "::")


FORKED = (
    "this server was started in the parent process and does not work in a forked child. "
    "Start the server in the process that serves, or start the child with multiprocessing's method 'spawn'."
)

EXIT_TIME = 5.0
"""Seconds that a core may take to end with the interpreter. It closes without a drain, in milliseconds."""

alive: WeakSet[Holder] = WeakSet()
"""Servers between their start and their stop."""

abandoned: list[Core] = []

atexit.register(stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=after_fork)

"""What must happen to servers when the process forks or ends.

The core's threads never touch the interpreter, so they can neither crash nor hang its end; but they would go
on serving while it is torn down. And a forked child has none of them: there a server is only memory.
"""

from __future__ import annotations

import atexit
import os
from typing import Any, NoReturn, Protocol
from weakref import WeakSet

from ._core import Core


class Holder(Protocol):
    """Something that owns a core, alive between its start and its stop."""

    @property
    def core(self) -> Core:
        """The core, which runs."""

    def forked(self) -> None:
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
    cores = [holder.core for holder in alive]
    for core in cores:
        core.stop(0.0)
    for core in cores:
        core.join(EXIT_TIME)


def after_fork() -> None:
    """Make the servers of the parent inert in the child."""
    for holder in list(alive):
        # The child must never drop the core: its threads, which it would wait for, do not exist here.
        abandoned.append(holder.core)
        holder.forked()
    alive.clear()


FORKED = (
    "this server was started in the parent process and does not work in a forked child. "
    "Start the server in the process that serves, or start the child with multiprocessing's method 'spawn'."
)

EXIT_TIME = 5.0
"""Seconds that a core may take to end when the interpreter does; it closes without draining, which takes
milliseconds."""

alive: WeakSet[Holder] = WeakSet()
"""Servers between their start and their stop."""

abandoned: list[Core] = []

atexit.register(stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=after_fork)

"""The demonstration: ``umbel demo`` serves a page that shows this machine, subscribers, and Umbel at work.

- ``sources``: what this machine measures about itself
- ``ai``: where answers come from
- ``load_process``: the process that holds a thousand simulated subscribers
- ``load``: starts and ends those processes
- ``slow``: the relay that makes the page a slow reader
- ``board``: the task board, which several change at the same time
- ``web``: the page
- ``server``: the application, and the command line
"""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the demo until SIGINT or SIGTERM; return the exit code."""
    from .server import main as serve  # the load processes need nothing of it

    return serve(arguments)


__all__ = ["main"]

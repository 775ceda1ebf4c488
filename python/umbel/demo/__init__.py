"""The demonstration: ``umbel demo`` serves one page that shows this machine, a crowd, and what Umbel does.

- ``sources``: what this machine measures about itself
- ``ai``: where answers come from
- ``crowd``: the process that holds a thousand simulated subscribers
- ``crowds``: those processes, started and ended
- ``slow``: the relay that makes the page a slow reader
- ``server``: the application, and the command line
"""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the demo until SIGINT or SIGTERM; return the exit code."""
    from .server import main as serve  # the processes of the crowd need nothing of it

    return serve(arguments)


__all__ = ["main"]

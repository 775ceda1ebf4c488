"""The demonstration: ``umbel demo`` serves one page that shows this machine, a crowd, and what Umbel does.

sources   what this machine measures about itself
ai        where answers come from
crowd     the process that holds a thousand simulated subscribers
crowds    those processes, started and ended
slow      the relay that makes the page a slow reader
server    the application, and the command line
"""

from .server import main

__all__ = ["main"]

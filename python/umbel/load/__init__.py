"""A load for a server: connections that publish, listen and ask, and check what they get.

`umbel load` does the same from a terminal. docs/load.md says what the figures mean.
"""

from ._config import LoadConfig, Scenario
from ._load import Load, LoadError
from ._merge import merge
from ._results import Latency, LoadResults, Snapshot

__all__ = ["Latency", "Load", "LoadConfig", "LoadError", "LoadResults", "Scenario", "Snapshot", "merge"]

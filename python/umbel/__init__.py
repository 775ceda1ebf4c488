"""Real-time server for Python: handlers in Python, delivery in a Rust core.

Start with `Umbel`. The smallest server::

    from umbel import Umbel

    app = Umbel()
    app.channel("news:{topic}", open=True, publish=True)
    app.run()
"""

from ._core import Position, Stats, __version__
from .app import Umbel
from .auth import Identity, Request
from .client import Client, Message
from .exceptions import ConfigurationError, ConnectionClosed, Refused, UmbelError
from .runs import Run
from .server import Server
from .settings import Settings
from .websocket import WebSocket

__all__ = [
    "Client",
    "ConfigurationError",
    "ConnectionClosed",
    "Identity",
    "Message",
    "Position",
    "Refused",
    "Request",
    "Run",
    "Server",
    "Settings",
    "Stats",
    "Umbel",
    "UmbelError",
    "WebSocket",
    "__version__",
]

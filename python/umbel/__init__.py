"""Real-time server for Python: handlers in Python, delivery in a Rust core.

Start with `Umbel`. The smallest server::

    from umbel import Umbel

    app = Umbel()
    app.channel("news:{topic}", open=True, publish=True)
    app.run()
"""

from ._application import Umbel
from ._clients.client import Client, Message
from ._clients.request import Identity, Request
from ._clients.websocket import WebSocket
from ._core import Position, Stats, __version__
from ._declaring.settings import Settings
from ._dispatching.runs import Run
from ._serving.server import Server
from .exceptions import ConfigurationError, ConnectionClosed, Refused, UmbelError

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

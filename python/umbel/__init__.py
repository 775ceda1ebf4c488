"""Real-time server for Python: handlers in Python, delivery in a Rust core.

Start with `Umbel`. The smallest server::

    from umbel import Umbel

    app = Umbel()
    app.channel("news:{topic}", open=True, publish=True)
    app.run()
"""

from ._application import Umbel
from ._clients.client import Client, Message
from ._clients.history import History, Publication
from ._clients.identity import Identity
from ._clients.proposal import Proposal
from ._clients.removed import REMOVED
from ._clients.request import Request
from ._clients.run import Run
from ._clients.state import State
from ._clients.websocket import WebSocket
from ._core import Position, Receipt, Stats, __version__
from ._declaring.jwt import JWT
from ._declaring.settings import Settings
from ._serving.server import Server
from .exceptions import (
    ConfigurationError,
    Conflict,
    ConnectionClosed,
    MaybePublished,
    NotPublished,
    Refused,
    Rejected,
    StateFull,
    UmbelError,
)

__all__ = [  # noqa: RUF022 - JWT is a class, and no constant
    "Client",
    "ConfigurationError",
    "Conflict",
    "ConnectionClosed",
    "History",
    "Identity",
    "JWT",
    "MaybePublished",
    "Message",
    "NotPublished",
    "Position",
    "Proposal",
    "Publication",
    "REMOVED",
    "Receipt",
    "Refused",
    "Rejected",
    "Request",
    "Run",
    "Server",
    "Settings",
    "State",
    "StateFull",
    "Stats",
    "Umbel",
    "UmbelError",
    "WebSocket",
    "__version__",
]

for _name in __all__:
    if isinstance(_value := globals()[_name], type) and _value.__module__ != __name__:
        _value.__module__ = __name__

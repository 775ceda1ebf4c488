"""The client for Python programs, on the library `websockets`: ``pip install 'umbel[client]'``.

::

    from umbel.client import connect

    async with connect("ws://127.0.0.1:8000/ws") as umbel:
        async for update in umbel.subscribe("news:weather"):
            print(update["data"])
"""

try:
    import websockets as _websockets  # noqa: F401
except ImportError as error:
    raise ImportError(
        "umbel.client needs the library websockets, 15 or later: pip install 'umbel[client]'"
    ) from error

from ._connect import connect
from ._connection import Connection
from ._errors import OutcomeUnknown, RequestFailed, SubscriptionFailed
from ._inbox import Gap, Sender, Update
from ._limits import Limits
from ._members import Members
from ._run import Run
from ._shared_state import Changed, SharedState
from ._state import Published, State
from ._subscription import Subscription

__all__ = [
    "Changed",
    "Connection",
    "Gap",
    "Limits",
    "Members",
    "OutcomeUnknown",
    "Published",
    "RequestFailed",
    "Run",
    "Sender",
    "SharedState",
    "State",
    "Subscription",
    "SubscriptionFailed",
    "Update",
    "connect",
]

for _name in __all__:
    globals()[_name].__module__ = __name__

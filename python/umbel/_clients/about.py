"""What a log line says of a client beside its text, for those who read it with programs."""

from .client import Client
from .request import Request
from .websocket import WebSocket


def about(*values: object, incident: str | None = None) -> dict[str, dict[str, object]]:
    """Make the ``extra`` of a log record, from what its text names: a client, a websocket or a request.

    It is one attribute, ``umbel``, because an application may have attributes of its own on every record.
    """
    found: dict[str, object] = {}
    for value in values:
        request = value.request if isinstance(value, Client | WebSocket) else value
        if isinstance(request, Request):
            # The request of a client that came back may name the newcomer that it was before.
            client_id = value.id if isinstance(value, Client) else request._handshake.client_id
            found = known(client_id, request._handshake.connection)
    if incident is not None:
        found["incident"] = incident
    return {"umbel": found}


def known(client_id: str, connection: int) -> dict[str, object]:
    """Name a client and its connection. 0 is no number of a connection."""
    return {"clientId": client_id} | ({"connection": connection} if connection else {})

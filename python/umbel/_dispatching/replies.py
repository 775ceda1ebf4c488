"""Results and errors, as messages of the protocol."""

from datetime import UTC, datetime
from typing import Any

from orjson import Fragment, dumps


def result(message_type: str, message_id: bytes | None, value: object) -> bytes:
    """Encode the result of a handler: ``{"type": "<type>_result", "id": …, "data": …}``.

    Raises:
        TypeError: if the value can't be encoded as JSON.
    """
    return dumps(
        {"type": f"{message_type}_result", **identified(message_id), "data": value, "timestamp": timestamp()},
    )


def error(code: str, message: str, message_id: bytes | None = None, incident: str | None = None) -> bytes:
    """Encode an ``error``. ``message_id`` is the JSON text of the id of the message that caused it."""
    body: dict[str, Any] = {"type": "error", "code": code, "message": message, **identified(message_id)}
    if incident:
        body["details"] = {"incident": incident}
    return dumps(body | {"timestamp": timestamp()})


def identified(message_id: bytes | None) -> dict[str, Fragment]:
    """Return the field that carries the id of the message."""
    return {} if message_id is None else {"id": Fragment(message_id)}


def timestamp() -> str:
    """RFC 3339, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"

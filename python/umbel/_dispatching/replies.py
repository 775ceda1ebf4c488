"""Control messages that Python sends: results and errors, as PROTOCOL describes them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from orjson import Fragment, dumps


def result(message_type: str, request: bytes | None, value: object) -> bytes:
    """Encode the answer to a message: ``{"type": "<type>_result", "id": …, "data": …}``.

    Raises:
        TypeError: if the value is not JSON serialisable.
    """
    return dumps(
        {"type": f"{message_type}_result", **identified(request), "data": value, "timestamp": timestamp()},
    )


def error(
    code: str, message: str, request: bytes | None = None, details: Mapping[str, Any] | None = None
) -> bytes:
    """Encode an ``error``; ``request`` is the JSON text of the id of the message that caused it."""
    body: dict[str, Any] = {"type": "error", "code": code, "message": message, **identified(request)}
    if details:
        body["details"] = details
    return dumps(body | {"timestamp": timestamp()})


def identified(request: bytes | None) -> dict[str, Fragment]:
    """Return the field that carries the id of the message that is answered."""
    return {} if request is None else {"id": Fragment(request)}


def timestamp() -> str:
    """RFC 3339, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def incident() -> str:
    """Return a new id that stands in the log and in the client's ``error``, so that one leads to the
    other.
    """
    return secrets.token_hex(6)

"""What every client checks: the schema, offsets without a hole, and bytes that were really on the wire."""

from __future__ import annotations

import functools
import json
import pathlib
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

import jsonschema  # type: ignore[import-untyped,unused-ignore]

Node = Callable[..., dict[str, Any]]
"""Runs one scenario of ws_client.mjs: name, address, options."""

SCHEMA: Final = pathlib.Path(__file__).resolve().parents[2] / "docs" / "protocol.schema.json"


@functools.cache
def validator(sender: Literal["client", "server"]) -> jsonschema.Draft202012Validator:
    """The schema of what one side sends."""
    schema = json.loads(SCHEMA.read_text())
    del schema["anyOf"]
    return jsonschema.Draft202012Validator({**schema, "$ref": f"#/$defs/{sender}_message"})


def received(text: str | bytes) -> dict[str, Any]:
    """Parse a message of the server and check it against the schema."""
    message: dict[str, Any] = json.loads(text)
    validator("server").validate(message)
    return message


def sent(**message: Any) -> str:
    """Write a message of the client and check it against the schema."""
    validator("client").validate(message)
    return json.dumps(message)


def follow(messages: Iterable[dict[str, Any]], channel: str, position: int) -> list[Any]:
    """Return the data of a channel from messages; fail where an update does not follow the one before."""
    data = []
    for message in messages:
        if message["type"] != "batched_updates":
            assert message["type"] != "gap", message
            continue
        assert message["count"] == len(message["updates"]) > 0
        for update in message["updates"]:
            if update["channel"] == channel:
                assert update.get("from", update["offset"] - 1) == position, (
                    f"{update} does not follow {position}"
                )
                position = update["offset"]
                data.append(update["data"])
    return data


def bytes_received(connection: socket.socket) -> int:
    """Bytes that the kernel has received on a TCP connection (``tcpi_bytes_received`` of TCP_INFO)."""
    information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    count: int = struct.unpack_from("=Q", information, 128)[0]
    return count

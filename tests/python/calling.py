"""A program that makes calls over HTTP for tests, on one connection that it keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from umbel import Server

PUBLISH = "/api/v1/publish"
HISTORY = "/api/v1/history"
CALLS = {"publish_path": PUBLISH, "history_path": HISTORY}
"""Settings with which a server takes calls."""


@dataclass
class Response:
    """One response; `body` is decoded where it is JSON."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def kept(self) -> bool:
        """Whether the server keeps the connection."""
        return self.headers["connection"] == "keep-alive"


class Program:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, line: str, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        """Send a request, with these headers beside `Host`."""
        lines = [f"{line} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def hear(self) -> Response:
        """The next response. Fails when the connection ends before."""
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.rstrip().split("\r\n")
            headers = {}
            for line in lines:
                name, _, value = line.partition(": ")
                assert name.lower() not in headers
                headers[name.lower()] = value
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        is_json = headers.get("content-type") == "application/json"
        return Response(int(status.split()[1]), headers, orjson.loads(body) if is_json and body else body)

    async def hear_continue(self) -> str:
        """The line that asks for the body."""
        async with asyncio.timeout(10):
            return (await self.reader.readuntil(b"\r\n\r\n")).decode().strip()

    async def post(self, data: Any, path: str = PUBLISH, **headers: str) -> Response:
        """Send JSON, or bytes as they are, and return the response."""
        body = data if isinstance(data, bytes) else orjson.dumps(data)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        start = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        self.send(f"POST {path}", start | named, body)
        return await self.hear()

    async def get(self, target: str, **headers: str) -> Response:
        """Ask for something, and return the response."""
        self.send(f"GET {target}", headers)
        return await self.hear()

    async def is_over(self) -> bool:
        """Whether the server ends the connection without another word."""
        async with asyncio.timeout(10):
            return await self.reader.read(1) == b""


@asynccontextmanager
async def program(server: Server) -> AsyncIterator[Program]:
    """Connect, and close at the end."""
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 24)
    try:
        yield Program(reader, writer)
    finally:
        writer.close()

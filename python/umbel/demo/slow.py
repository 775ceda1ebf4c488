"""The slow reader: a relay between this page and the server that reads a few KiB per second.

A browser can't stop reading from a WebSocket. So when the page becomes a slow reader, its connection goes
through here, with its session. The server has a real connection on a real socket that is read too slowly, and
all that follows from it. What comes through reaches the page as it is.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Final

from umbel import WebSocket

from .load_process import masked, next_frame, upgrade


class Relay:
    """One slow connection."""

    def __init__(self, websocket: WebSocket, host: str, port: int) -> None:
        self._websocket = websocket
        self._address = host, port
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Relay until either end closes."""
        host, port = self._address
        request = upgrade(host, port, protocol="umbel.v1.first", deflate=False)
        with await self._connect() as upstream:
            await self._loop.sock_sendall(upstream, request)
            tasks = [asyncio.create_task(self._down(upstream)), asyncio.create_task(self._up(upstream))]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self) -> socket.socket:
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        upstream = socket.socket(family, socket.SOCK_STREAM)
        try:
            # Otherwise the kernel reads on, megabytes ahead of us.
            upstream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            upstream.setblocking(False)
            await self._loop.sock_connect(upstream, (host, port))
        except BaseException:
            upstream.close()
            raise
        return upstream

    async def _down(self, upstream: socket.socket) -> None:
        """From the server to the page, slowly."""
        rest = b""
        greeted = False
        while chunk := await self._loop.sock_recv(upstream, PIECE):
            await asyncio.sleep(len(chunk) / BYTES_PER_SECOND)
            rest += chunk
            if not greeted:
                head, end, tail = rest.partition(b"\r\n\r\n")
                if not end:
                    continue
                if not head.startswith(b"HTTP/1.1 101"):
                    self._websocket.close(1013, "the server refused the slow reader")
                    return
                greeted, rest = True, tail
            while (frame := next_frame(rest)) is not None:
                first, payload, end_of_frame = frame
                rest = rest[end_of_frame:]
                if first & 0x0F == 0x8:
                    self._end(payload)
                    return
                if first & 0x0F == 0x9:
                    await self._loop.sock_sendall(upstream, masked(0x8A, payload))
                elif first & 0x0F == 0x1:
                    await self._websocket.send(payload.decode())
        self._websocket.close(1012, "the slow reader lost the server")

    async def _up(self, upstream: socket.socket) -> None:
        """From the page to the server, at once."""
        async for message in self._websocket:
            if isinstance(message, str):
                await self._loop.sock_sendall(upstream, masked(0x81, message.encode()))

    def _end(self, payload: bytes) -> None:
        """Pass a close frame on."""
        code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1000
        with suppress(ValueError):
            self._websocket.close(code, payload[2:].decode(errors="replace"))


BYTES_PER_SECOND: Final = 10_000
"""Less than the sources of this machine alone publish, so that the reader falls behind at any load."""

PIECE: Final = 1024

RECEIVE_BUFFER: Final = 4096
"""Bytes that the kernel may hold for the relay; it takes twice as much for its own bookkeeping."""

"""Many clients that come at once with tokens that were not verified before."""

from __future__ import annotations

import asyncio
import json
import os
import select
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hostile import TEXT, Peer, frame, handshake
from serving import ROOT
from tokens import SECRET, encoded, token
from umbel import JWT, Umbel

P384 = (ROOT / "tests" / "keys" / "p384-public.pem").read_text()

STRANGERS = 600
"""Each costs a millisecond and more: together they take longer than anything else in this test."""

FIRST = "Sec-WebSocket-Protocol: umbel.v1.first"


def forged() -> str:
    """A token that looks right until its signature is verified, which takes long."""
    signed, _, _ = token(header={"alg": "ES384", "kid": "p"}).rpartition(".")
    return f"{signed}.{encoded(os.urandom(96))}"


def bearer(text: str) -> str:
    return f"Authorization: Bearer {text}"


def good() -> str:
    return bearer(token(header={"kid": "h"}))


def authenticate() -> bytes:
    return frame(TEXT, json.dumps({"type": "authenticate", "token": forged()}).encode())


def request() -> Iterator[bytes]:
    yield handshake(add=[bearer(forged())])


def stream() -> Iterator[bytes]:
    yield f"GET /api/v1/stream/news HTTP/1.1\r\nHost: 127.0.0.1\r\n{bearer(forged())}\r\n\r\n".encode()


def first() -> Iterator[bytes]:
    yield handshake(add=[FIRST])
    yield authenticate()


def renewal() -> Iterator[bytes]:
    yield handshake(add=[good()])
    yield authenticate()


@pytest.mark.parametrize("way", [request, stream, first, renewal])
async def test_a_client_is_answered_between_few_of_those_that_come_with_wrong_tokens(
    way: Callable[[], Iterator[bytes]],
) -> None:
    auth = JWT(keys={"h": SECRET, "p": P384}, algorithms=["HS256", "ES384"])
    app = Umbel(auth=auth, handshake_timeout=60)

    def attack(address: tuple[str, int]) -> int:
        """How many were answered when another client was."""
        with ExitStack() as open_ones:
            other = open_ones.enter_context(Peer(address))
            other.upgrade(headers=[good()])
            other.read_json("connection_established")
            strangers = [open_ones.enter_context(Peer(address)) for _ in range(STRANGERS)]
            says = [list(way()) for _ in strangers]
            for stranger, (*before, _) in zip(strangers, says, strict=True):
                for text in before:
                    stranger.send(text)
                    stranger.response()
                    if way is renewal:
                        stranger.read_json("connection_established")
            for stranger, (*_, last) in zip(strangers, says, strict=True):
                stranger.send(last)
            other.send_json({"type": "heartbeat"})
            other.read_json("heartbeat_ack")
            waiting = select.poll()
            for stranger in strangers:
                waiting.register(stranger.socket, select.POLLIN)
            answered = len(waiting.poll(0))
            heard = b""
            while b"bad_signature" not in heard:  # it was verified, and not refused for something else
                more = strangers[0].socket.recv(1 << 16)
                assert more, heard
                heard += more
            return answered

    async with app.serve(port=0) as server:
        host, port = server.url.removeprefix("http://").split(":")
        answered = await asyncio.to_thread(attack, (host, int(port)))
        assert answered < STRANGERS / 2

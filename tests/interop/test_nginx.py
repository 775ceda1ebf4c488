"""A server behind nginx, which cuts a connection on which nothing is said for a while."""

from __future__ import annotations

import asyncio
import os
import pathlib

import orjson
import pytest
from proxy import nginx
from streams import stream
from umbel import Umbel
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

TIMEOUT = int(os.environ.get("NGINX_TIMEOUT", "1"))
"""Seconds. nginx has 60 if nobody says otherwise. The server pings after 30 (``heartbeat``)."""

TIMES = int(os.environ.get("NGINX_TIMES", "3"))
"""So many of these times nothing is published."""

LOCATION = f"""
proxy_http_version 1.1;
proxy_set_header Host $host;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection upgrade;
proxy_read_timeout {TIMEOUT}s;
proxy_send_timeout {TIMEOUT}s;
"""


async def keeps_saying(connection: ClientConnection) -> None:
    """Say what nobody answers."""
    while True:
        await connection.send('{"type": "say"}')
        await asyncio.sleep(TIMEOUT / 5)


@pytest.mark.parametrize(
    ("speaks", "pings", "lives"), [(True, True, True), (False, True, True), (False, False, False)]
)
async def test_pings_keep_the_connection(
    tmp_path: pathlib.Path, speaks: bool, pings: bool, lives: bool
) -> None:
    app = Umbel()
    app.on("say")(lambda client, message: None)
    async with app.serve(port=0, heartbeat=TIMEOUT / 2 if pings else 60) as server:
        # The library pings by itself if it is not told otherwise.
        with nginx(tmp_path, server.url, LOCATION) as port:
            url = f"ws://127.0.0.1:{port}/ws"
            async with connect(url, subprotocols=["umbel.v1"], proxy=None, ping_interval=None) as connection:
                assert orjson.loads(await connection.recv())["type"] == "connection_established"
                speaking = asyncio.create_task(keeps_saying(connection)) if speaks else None
                try:
                    async with asyncio.timeout(TIMES * TIMEOUT):
                        await connection.recv()
                except TimeoutError:
                    assert lives
                except ConnectionClosed:
                    assert not lives
                if speaking:
                    speaking.cancel()


async def test_a_stream_comes_through_at_once_and_is_not_cut_while_nothing_is_published(
    tmp_path: pathlib.Path,
) -> None:
    app = Umbel()
    app.channel("{name}", open=True)
    async with app.serve(port=0, heartbeat=TIMEOUT / 2) as server:
        # By itself nginx speaks HTTP/1.0 to the server, and gathers what comes if it is not told otherwise.
        with nginx(tmp_path, server.url, f"proxy_read_timeout {TIMEOUT}s;") as port:
            async with stream(("127.0.0.1", port), "a?heartbeat=event") as events:
                events.patience += TIMEOUT
                await events.hear("subscription_established")
                for number in range(3):
                    app.publish("a", number)
                    assert [update["data"] for update in await events.updates(1)] == [number]
                for _ in range(TIMES * 2):
                    await events.hear("heartbeat")
                app.publish("a", "still there")
                assert len(await events.updates(1)) == 1
            async with stream(("127.0.0.1", port), "a", last_id=events.parser.last_id) as again:
                established = await again.hear("subscription_established")
                assert established.data["recovered"] is True

"""A server behind nginx, which cuts a connection on which nothing is said for a while."""

from __future__ import annotations

import asyncio
import os
import pathlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest
from umbel import Umbel
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

TIMEOUT = 1
"""Seconds. nginx has 60 if nobody says otherwise. The server pings after 30 (``heartbeat``)."""

CONFIG = """
daemon off;
pid {here}/pid;
error_log {here}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {here}/body;
  proxy_temp_path {here}/proxy;
  fastcgi_temp_path {here}/fastcgi;
  uwsgi_temp_path {here}/uwsgi;
  scgi_temp_path {here}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass {upstream};
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      proxy_read_timeout {timeout}s;
      proxy_send_timeout {timeout}s;
    }}
  }}
}}
"""


def installed() -> str:
    """The path of nginx. It is Debian's package, which is installed if we are root."""
    path = "/usr/sbin:" + os.environ["PATH"]
    if not shutil.which("nginx", path=path) and shutil.which("apt-get") and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for action in (["update"], ["install", "--yes", "--no-install-recommends", "nginx-light"]):
            subprocess.run(["apt-get", "-qq", *action], env=environment, capture_output=True, check=False)
    found = shutil.which("nginx", path=path)
    if not found:
        pytest.skip("nginx is not installed")
    return found


@contextmanager
def nginx(here: pathlib.Path, upstream: str) -> Iterator[str]:
    """A proxy in front of a server. Its address is for WebSockets."""
    command = installed()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = here / "nginx.conf"
    config.write_text(CONFIG.format(here=here, port=port, upstream=upstream, timeout=TIMEOUT))
    with subprocess.Popen([command, "-e", str(here / "error.log"), "-c", str(config)]) as process:
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, (here / "error.log").read_text()
                time.sleep(0.05)
            yield f"ws://127.0.0.1:{port}/ws"
        finally:
            process.terminate()


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
        with nginx(tmp_path, server.url) as url:
            async with connect(url, subprotocols=["umbel.v1"], proxy=None, ping_interval=None) as connection:
                assert orjson.loads(await connection.recv())["type"] == "connection_established"
                speaking = asyncio.create_task(keeps_saying(connection)) if speaks else None
                try:
                    async with asyncio.timeout(3 * TIMEOUT):
                        await connection.recv()
                except TimeoutError:
                    assert lives
                except ConnectionClosed:
                    assert not lives
                if speaking:
                    speaking.cancel()

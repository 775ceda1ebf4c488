"""The JavaScript client behind nginx that forwards no WebSocket. What the client does is in fallback.mjs."""

from __future__ import annotations

import asyncio
import json
import pathlib
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest
from dialogue import Node
from proxy import nginx
from umbel import Client, Message, Run, Umbel

pytestmark = pytest.mark.timeout(90)

HOLDS = """
proxy_buffering on;
proxy_ignore_headers X-Accel-Buffering;
"""
"""A response is passed on when it has ended, or when much of it has come; in chunks (HTTP/1.1) even so."""


def application() -> Umbel:
    app = Umbel()
    app.channel("echo", open=True, publish=True)
    app.channel("run:{run_id}", open=True)

    @app.on("double")
    def double(client: Client, message: Message) -> object:
        return message.data * 2

    @app.stream("recite")
    async def recite(run: Run, message: Message) -> AsyncIterator[str]:
        for number in range(message.data):
            await asyncio.sleep(0.01)
            yield f"{number} "

    return app


def client(url: str, **options: object) -> dict[str, Any]:
    script = pathlib.Path(__file__).with_name("fallback.mjs")
    command = ["node", str(script), url, json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("location", ["", HOLDS], ids=["defaults", "holds"])
async def test_all_is_as_ever(tmp_path: pathlib.Path, node: Node, location: str, version: str) -> None:
    async with application().serve(port=0) as server:
        with nginx(tmp_path, server.url, f"{location} proxy_http_version {version};") as port:
            url = f"ws://127.0.0.1:{port}/ws"
            found = await asyncio.to_thread(client, url, count=30, pause=20, asks=True, attemptTimeout=2000)
    assert found["transport"] == "stream"
    assert found["offsets"] == list(range(1, 31))
    assert found["doubled"] == [2 * number for number in range(100)]
    assert found["run"] == ["complete", "".join(f"{number} " for number in range(30))]
    if location and version == "1.0":
        assert found["parts"] == list(range(len(found["parts"]))), "one that is mute, then parts"
        assert len(found["parts"]) > 30
    else:
        assert found["parts"] == [0]

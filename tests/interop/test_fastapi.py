"""FastAPI gives a ticket, and its lifespan runs Umbel: the recipe, with other people's servers."""

from __future__ import annotations

import asyncio
import json
import pathlib
import signal
import socket
import sys
import urllib.error
import urllib.request
from contextlib import AsyncExitStack
from typing import Any

import pytest
from serving import READY, ROOT, Server, http_status, wait_until
from streams import stream

PAGE = (ROOT / "docs" / "event-streams.md").read_text()


def recipe() -> str:
    blocks = (part.partition("```")[0] for part in PAGE.split("```python\n")[1:])
    return next(block for block in blocks if "FastAPI" in block)


def free_ports(count: int) -> list[int]:
    with_sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [it.getsockname()[1] for it in with_sockets]
    for it in with_sockets:
        it.close()
    return ports


def post(url: str, **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(url, method="POST", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


COMMANDS = {
    "uvicorn": ["uvicorn", "main:api", "--port"],
    "granian": ["granian", "--interface", "asgi", "main:api", "--port"],
}


@pytest.mark.parametrize("server", COMMANDS)
async def test_a_page_gets_its_ticket_from_one_port_and_its_stream_from_the_other(
    tmp_path: pathlib.Path, server: str
) -> None:
    port, live = free_ports(2)
    program = recipe().replace("port=8001", f"port={live}").replace(":8000", f":{port}")
    (tmp_path / "main.py").write_text(program)
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT / 'python'}"}
    command = [sys.executable, "-m", *COMMANDS[server], str(port)]
    process = Server(*command, environment=environment)
    try:
        process.wait_line(f"listening on http://127.0.0.1:{live}")
        asks = ("127.0.0.1", port), "/openapi.json"
        await asyncio.to_thread(wait_until, lambda: http_status(*asks) == 200, "FastAPI answers", READY)
        base, page = f"http://127.0.0.1:{port}", {"Origin": f"http://127.0.0.1:{port}"}
        ada = {"Authorization": "Bearer the token of ada"}
        assert (await asyncio.to_thread(post, f"{base}/ticket"))[0] == 401
        code, answer = await asyncio.to_thread(post, f"{base}/ticket", **ada, **page)
        assert code == 200
        target, address = f"news?ticket={answer['ticket']}", ("127.0.0.1", live)
        async with stream(address, target, {"Origin": "http://127.0.0.1:1"}) as events:
            assert events.status == 403
        async with stream(address, "news", page) as events:
            assert events.status == 401
        async with AsyncExitStack() as stack:
            events = await stack.enter_async_context(stream(address, target, page))
            assert events.headers["access-control-allow-origin"] == page["Origin"]
            assert (await events.hear("connected")).data["subject"] == "ada"
            for number in range(3):
                await events.hear("subscription_established")
                assert (await asyncio.to_thread(post, f"{base}/news?text={number}", **ada))[0] == 200
                assert (await events.updates(1))[0]["data"] == {"from": "ada", "text": str(number)}
                last = events.parser.last_id
                events.cut()
                # As a browser comes back.
                events = await stack.enter_async_context(stream(address, target, page, last_id=last))
                assert events.status == 200
    finally:
        status = process.stop()
    # uvicorn ends as the signal says, after it has shut down.
    assert status in (0, -signal.SIGTERM) and "shutdown complete" in process.output.lower(), process.output

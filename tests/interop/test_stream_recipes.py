"""The recipes of the page about event streams do what it says."""

from __future__ import annotations

import asyncio
import pathlib
import re
import subprocess
from typing import Any

import orjson
import pytest
from umbel import Server, Umbel

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "event-streams.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def app() -> Umbel:
    space: dict[str, Any] = {}
    exec(blocks("python")[0], space)
    made: Umbel = space["app"]
    made._declared.backgrounds.clear()  # the tests publish
    return made


async def shell(code: str, server: Server, folder: pathlib.Path, seconds: float) -> str:
    """What a script says until it ends, or until so many seconds are over."""
    code = code.replace("http://127.0.0.1:8000", server.url).replace("--max-time 3", f"--max-time {seconds}")
    code = code.replace("curl --no-buffer", f"curl --no-buffer --max-time {seconds}")
    code = code.replace("--no-buffer http", f"--no-buffer --max-time {seconds} http")
    command = ["bash", "-c", code]
    environment = {"PATH": "/usr/bin:/bin", "TOKEN": "secret"}
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout


def numbers(text: str) -> list[Any]:
    found = []
    for line in text.splitlines():
        if line.startswith("data: "):
            found += [update["data"] for update in orjson.loads(line[6:]).get("updates", ())]
    return found


async def test_the_scripts_read_a_channel_and_go_on_where_they_were(
    app: Umbel, tmp_path: pathlib.Path
) -> None:
    plain, updates, going_on = blocks("bash")
    async with app.serve(port=0) as server:

        async def publish() -> None:
            for number in range(10_000):
                app.publish("news", number)
                await asyncio.sleep(0.01)

        publishing = asyncio.create_task(publish())
        said = await shell(plain, server, tmp_path, 1)
        assert "event: connected\n" in said and len(numbers(said)) > 10
        only = await shell(updates, server, tmp_path, 1)
        assert numbers(only) and only.count("data: ") == len(only.splitlines())
        for _ in range(4):
            await shell(going_on, server, tmp_path, 0.7)
        publishing.cancel()
    read = numbers((tmp_path / "events").read_text())
    assert len(read) > 100 and read == list(range(read[0], read[0] + len(read)))


async def test_the_program_reads_until_the_stream_ends(app: Umbel) -> None:
    space: dict[str, Any] = {}
    exec(blocks("python")[-1], space)
    async with app.serve(port=0, stream_seconds=0.5, heartbeat=0.1) as server:
        url = f"{server.url}/api/v1/stream?channel=news"

        def read(last_id: str) -> list[tuple[str, str, Any]]:
            return list(space["follow"](url, last_id))

        reading = asyncio.create_task(asyncio.to_thread(read, ""))
        while not app.subscribers("news"):
            await asyncio.sleep(0.01)
        app.publish("news", 1)
        first = await reading
        assert [name for name, *_ in first] == ["connected", "subscription_established", "message", "closed"]
        app.publish("news", 2)
        second = await asyncio.to_thread(read, first[-1][1])
    assert second[1][2]["recovered"] is True
    assert [update["data"] for update in second[2][2]["updates"]] == [2]

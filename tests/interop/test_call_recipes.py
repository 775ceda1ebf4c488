"""The recipes of the page about HTTP do what it says."""

from __future__ import annotations

import asyncio
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from umbel import Server, Umbel

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "http.md").read_text()
ENVIRONMENT = {
    "PATH": f"{pathlib.Path(sys.executable).parent}:/usr/bin:/bin",
    "UMBEL_KEY": "a secret of 32 bytes or more, please",
    "PYTHONPATH": ":".join(sys.path),
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def app() -> Iterator[Umbel]:
    space: dict[str, Any] = {}
    exec(blocks("python")[0], space)
    yield space["app"]


def shell(code: str, **environment: str) -> str:
    command = ["bash", "-c", code.replace("umbel ", f"{sys.executable} -m umbel ")]
    done = subprocess.run(
        command, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def run(code: str, server: Server, token: str) -> Any:
    code = code.replace("http://127.0.0.1:8000", server.url)
    return orjson.loads(await asyncio.to_thread(shell, code, UMBEL_TOKEN=token))


async def test_the_recipes_publish_and_read(app: Umbel) -> None:
    (sign,) = re.findall(r"\$\((umbel token .*?)\)", blocks("console")[0])
    token = (await asyncio.to_thread(shell, sign)).strip()
    one, several, patch, command, once, history = blocks("bash")
    async with app.serve(port=0) as server:
        assert (await run(one, server, token))["offset"] == 1
        results = (await run(several, server, token))["results"]
        assert [(result["channel"], result["offset"]) for result in results] == [("task:7", 2), ("task:8", 1)]
        await app.state("board:7").set("task-1", {"title": "tea"})
        assert (await run(patch, server, token))["key"] == "task-1"
        entry = await app.state("board:7").get("task-1")
        assert entry is not None
        assert entry.data == {"title": "tea", "done": True}
        assert (await run(command, server, token))["offset"] == 3
        for _ in range(2):
            assert (await run(once, server, token))["offset"] == 4
        part = await run(history, server, token)
        assert [update["data"] for update in part["updates"]] == [
            {"state": "running"},
            1,
            {"state": "done"},
            {"state": "done"},
        ]
        space: dict[str, Any] = {}
        exec(blocks("python")[1], space)

        def read_all(offset: int, epoch: str = part["epoch"]) -> list[Any]:
            updates = space["read_all"](f"{server.url}/api/v1/history/task:7", token, epoch, offset)
            return [update["offset"] for update in updates]

        assert await asyncio.to_thread(read_all, 1) == [2, 3, 4]
        with pytest.raises(LookupError):
            await asyncio.to_thread(read_all, 1, "0123456789abcdef")

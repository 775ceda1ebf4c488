"""The command ``umbel publish``."""

from __future__ import annotations

import asyncio
import io

import orjson
import pytest
from calling import PUBLISH
from test_jwt import secret
from tokens import token
from umbel import Umbel
from umbel._command_line.command import main


async def test_it_publishes_and_prints_the_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Umbel(auth=secret(), publish_path=PUBLISH)
    app.channel("task:{x}", claims=True)
    monkeypatch.setenv("UMBEL_TOKEN", token("ann", publish=["task:*"]))
    async with app.serve(port=0) as server:

        async def publish(*arguments: str) -> tuple[int, str]:
            code = await asyncio.to_thread(main, ["publish", server.url, *arguments])
            return code, capsys.readouterr().out

        code, said = await publish("task:1", '{"a": 1}', "--event", "done")
        assert code == 0 and orjson.loads(said)["offset"] == 1
        monkeypatch.setattr("sys.stdin", io.StringIO("null"))
        for _ in range(2):
            code, said = await publish("task:1", "-", "--idempotency-key", "k")
            assert code == 0 and orjson.loads(said)["offset"] == 2
            monkeypatch.setattr("sys.stdin", io.StringIO("null"))
        code, said = await publish("other", "1")
        assert code == 1 and orjson.loads(said)["code"] == "unknown_channel"
        data = [entry.data for entry in (await app.history("task:1")).publications]
        assert data == [{"a": 1}, None]


async def test_a_server_that_takes_none_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    async with Umbel().serve(port=0) as server:
        assert await asyncio.to_thread(main, ["publish", server.url, "a", "1"]) == 1
    assert "publish_path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "data", "code", "text"),
    [
        ("http://127.0.0.1:1", "1", 1, "does not answer"),
        ("ws://127.0.0.1:1", "1", 2, "http://"),
        ("http://127.0.0.1:x", "1", 2, "no URL"),
        ("http://127.0.0.1:1", "hello", 2, "'\"hello\"'"),
    ],
)
def test_what_is_wrong_is_said(
    url: str, data: str, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["publish", url, "a", data]) == code
    assert text in capsys.readouterr().err

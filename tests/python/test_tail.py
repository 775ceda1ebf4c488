"""``umbel tail``: what it prints, and how it ends."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from breaking import breaking
from connecting import port_of, until
from programs import PYTHON_PATH, interruptible
from umbel import Request, Umbel
from umbel._command_line import command
from umbel._command_line.tail import follow_all


@contextmanager
def tailing(*words: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    program = subprocess.Popen(
        interruptible(sys.executable, "-m", "umbel", "tail", *words),
        env={**os.environ, "PYTHONPATH": str(PYTHON_PATH), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield program
    finally:
        program.kill()
        program.communicate()


async def lines(program: subprocess.Popen[str], count: int) -> list[Any]:
    assert program.stdout is not None
    return [json.loads(await asyncio.to_thread(program.stdout.readline)) for _ in range(count)]


async def test_it_prints_updates_and_what_was_missed(app: Umbel) -> None:
    @app.authenticate
    def who(request: Request) -> str | None:
        return request.token

    app.channel("task:{x}", open=True, history=2, replay="start")
    async with (
        app.serve(port=0, reconnect_window=0.02) as server,
        breaking(port_of(server)) as (url, network),
    ):
        with tailing(url, "task:1", "task:2", UMBEL_TOKEN="ann") as program:
            await until(lambda: app.subscribers("task:1") and app.subscribers("task:2"))
            app.publish("task:1", {"n": 1})
            app.publish("task:2", "ä")
            assert sorted(await lines(program, 2), key=lambda line: line["channel"]) == [
                {"channel": "task:1", "offset": 1, "data": {"n": 1}},
                {"channel": "task:2", "offset": 1, "data": "ä"},
            ]
            port, network.port = network.port, 1
            for link in list(network.links):
                link.end()
            await until(lambda: not app.subscribers("task:1"))
            for number in range(2, 6):
                app.publish("task:1", {"n": number})
            network.port = port
            missed, *rest = await lines(program, 3)
            assert missed["gap"]["reason"] == "trimmed"
            assert (missed["gap"]["from"], missed["gap"]["to"]) == (1, 3)
            assert [line["data"] for line in rest] == [{"n": 4}, {"n": 5}]
            program.send_signal(signal.SIGINT)
            assert program.wait(10) == 0
            assert program.stderr is not None
            said = program.stderr.read()
            assert "no connection (1006" in said
            assert "connected again" in said
            assert "task:1: publications are missing here: trimmed" in said


async def test_it_ends_when_nobody_reads(app: Umbel) -> None:
    app.channel("task:{x}", open=True, replay="start")
    async with app.serve(port=0) as server:
        with tailing(server.url, "task:1") as program:
            assert program.stdout is not None
            program.stdout.close()
            await until(lambda: app.subscribers("task:1"))
            app.publish("task:1", 1)
            await until(lambda: program.poll() is not None)
            assert program.returncode == 0


async def test_it_says_what_can_not_be_had(app: Umbel, capsys: pytest.CaptureFixture[str]) -> None:
    async with app.serve(port=0) as server:
        assert await follow_all(server.url, ["nothing"]) is False


@pytest.mark.parametrize(("url", "code"), [("ftp://example.org", 2), ("ws://127.0.0.1:{port}/nothing", 1)])
async def test_exit_codes(app: Umbel, url: str, code: int) -> None:
    async with app.serve(port=0) as server:
        with tailing(url.format(port=port_of(server)), "task:1") as program:
            await until(lambda: program.poll() is not None)
            assert program.returncode == code
            assert program.stderr is not None
            assert program.stderr.read().startswith("umbel: ")


def test_help_names_the_variable(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["tail", "--help"]) == 0
    assert "UMBEL_TOKEN" in capsys.readouterr().out

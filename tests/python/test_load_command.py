"""``umbel load``: its words, what it prints, and its exit codes."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from programs import PYTHON_PATH, interruptible, started
from test_load import serving
from umbel import JWT, Client, Umbel
from umbel._command_line import command
from umbel._command_line.requirements import Requirement

QUICK = (
    "--connections",
    "20",
    "--ramp",
    "10/1ms",
    "--rate",
    "50",
    "--warm-up",
    "0.1",
    "--seconds",
    "0.5",
    "--check-every",
    "1",
)


async def ended(*words: str, files: int | None = None) -> subprocess.CompletedProcess[str]:
    limited = ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh"] if files else []
    return await asyncio.to_thread(
        subprocess.run,
        [*limited, sys.executable, "-m", "umbel", "load", *words],
        env={**os.environ, "PYTHONPATH": str(PYTHON_PATH)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def test_it_prints_a_line_for_each_second_and_the_figures() -> None:
    async with serving() as target:
        done = await ended(target, *QUICK, "--require", "lost==0", "--require", "success>=99.95%")
    assert done.returncode == 0, done.stderr
    assert "measured" in done.stderr or "drain" in done.stderr
    for figure in ("21 at once, 0 failed", "to connect", "delivery", "100.0000%", "0 in 0 gaps"):
        assert figure in done.stdout


async def test_a_requirement_that_is_missed_is_named_and_is_exit_code_1() -> None:
    async with serving() as target:
        done = await ended(
            target, *QUICK, "--json", "--require", "connections>=1000", "--require", "answer.p95<1s"
        )
    assert done.returncode == 1
    assert "missed: connections>=1000, but it is 21" in done.stderr
    assert "missed: answer.p95<1s, but it was not measured" in done.stderr
    assert json.loads(done.stdout)["maxConcurrentConnections"] == 21


async def test_the_conversation_of_one_connection_is_shown_without_tokens() -> None:
    async with serving() as target:
        done = await ended(target, *QUICK, "--connections", "1", "-v", "--data-bytes", "300", "--rate", "5")
        chaos = await ended(target, *QUICK, "--connections", "1", "-v", "--scenario", "chaos")
    for part in (
        'reader    ← {"type":"connection_established"',
        'reader    → {"type":"subscribe_updates","channel":"load","id":1}\n',
        'publisher → {"type":"publish","channel":"load","data":{"t":',
        "xxx…\n",
        'publisher ← {"type":"published"',
        "reader    → close 1000\n",
        "reader    ← close 1000\n",
    ):
        assert part in done.stderr, done.stderr
    assert '"session":{"token":"…"' in chaos.stderr and '"session":"…"' in chaos.stderr


async def test_each_connection_gets_a_token_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"a secret of at least 32 bytes, this one")
    app = Umbel(auth=JWT(key=file.read_bytes(), algorithms=["HS256"]))
    seen: set[str] = set()

    app.channel("load-{number}", claims=True)

    @app.on_connect
    def connect(client: Client) -> None:
        assert client.identity is not None
        seen.add(client.identity.subject)

    async with serving(app) as target:
        words = (target, *QUICK, "--channels", "2", "--jwt-secret", str(file), "--jwt-subject", "user-{n}")
        done = await ended(*words, "--require", "errors==0", "--require", "success==100%")
    assert done.returncode == 0, done.stderr
    assert seen == {f"user-{n}" for n in range(21)}


@contextlib.asynccontextmanager
async def measuring(target: str) -> AsyncIterator[subprocess.Popen[str]]:
    """A load that measures for ten minutes, and is in it."""
    words = [sys.executable, "-m", "umbel", "load", target, *QUICK, "--seconds", "600"]
    program = subprocess.Popen(
        interruptible(*words),
        env={**os.environ, "PYTHONPATH": str(PYTHON_PATH)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stderr is not None
        while "measured" not in await asyncio.to_thread(program.stderr.readline):
            pass
        yield program
    finally:
        program.kill()
        program.communicate()


async def test_ctrl_c_prints_the_results_so_far() -> None:
    async with serving() as target, measuring(target) as program:
        program.send_signal(signal.SIGINT)
        said, _ = await asyncio.to_thread(program.communicate, timeout=30)
    assert program.returncode == 130
    assert "(cut short)" in said and "messages" in said


async def test_a_server_that_is_killed_is_exit_code_3_with_the_results_so_far(tmp_path: Path) -> None:
    (tmp_path / "feed.py").write_text(
        "from umbel import Umbel\napp = Umbel()\napp.channel('load', open=True, publish=True)\n"
    )
    with started("-m", "umbel", "run", "feed:app", "--port", "0", cwd=tmp_path) as server:
        target = await asyncio.to_thread(lambda: server.url.replace("http:", "ws:") + "/ws")
        async with measuring(target) as program:
            server.process.kill()
            said, _ = await asyncio.to_thread(program.communicate, timeout=30)
    assert program.returncode == 3
    assert "(cut short)" in said and "all connections were lost" in said


async def test_too_few_files_are_said_with_a_number_and_the_cure() -> None:
    async with serving() as target:
        done = await ended(target, "--connections", "100", "--ramp", "100/1ms", files=64)
    assert done.returncode == 3
    assert "may open too few files for 101 connections" in done.stderr and "ulimit -n 201" in done.stderr


async def test_nobody_there_is_exit_code_3_and_a_server_that_goes_away_too() -> None:
    async with serving() as target:
        pass
    done = await ended(target, *QUICK)
    assert (done.returncode, done.stdout) == (3, "")
    assert "none of 20 connections" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--publishers", "0"], "no message came"),
        (["--scenario", "request", "--message-type", "unheard"], "no request was answered"),
    ],
)
async def test_where_nothing_came_nothing_was_measured(words: list[str], says: str) -> None:
    async with serving() as target:
        done = await ended(target, *QUICK, *words)
    assert done.returncode == 3
    assert f"umbel: nothing was measured: {says}" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ws://192.0.2.1/ws"], "--remote 192.0.2.1"),
        (["ws://127.0.0.1:8000/ws", "--require", "p96<3"], "did you mean p9"),
        (["ws://127.0.0.1:8000/ws", "--require", "fast"], "is no requirement"),
        (["ws://127.0.0.1:8000/ws", "--ramp", "fast"], "50/100ms"),
        (["ws://127.0.0.1:8000/ws", "--stage", "10"], "1000/30s"),
        (["ws://127.0.0.1:8000/ws", "--header", "no colon"], "Name: value"),
        (["ws://127.0.0.1:8000/ws", "--tokens", "/no/such/file"], "/no/such/file"),
        (["ws://127.0.0.1:8000/ws", "--tokens", "a", "--jwt-secret", "b"], "not allowed with"),
        (["ws://127.0.0.1:8000/ws", "--metrics-token", os.devnull], "address is missing"),
        (["ws://127.0.0.1:8000/ws", "--answer", "2"], "PREFIX=TEXT"),
        (["ws://127.0.0.1:8000/ws", "--marker", "t="], "a marker begins with a text and has {time}"),
        (["ws://127.0.0.1:8000/ws", "-v"], "one connection"),
        (["ws://127.0.0.1:8000/ws", "--connections", "0"], "--connections is a number of at least 1"),
        (["ws://127.0.0.1:8000/ws", "--connectons", "5"], "Did you mean --connections?"),
        (["ws://127.0.0.1:8000/ws", "--scenario", "panic"], "panic"),
    ],
)
def test_wrong_words_are_exit_code_2(words: list[str], says: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert command.main(["load", *words]) == 2
    assert says in capfd.readouterr().err


async def test_a_file_has_the_values_and_options_come_before_it(tmp_path: Path) -> None:
    file = tmp_path / "load.toml"
    file.write_text(
        "target_connections = 7\nramp_up_delay = 0.001\nwarm_up = 0.1\nseconds = 60.0\nstages = [[3, 0.1]]\n"
    )
    async with serving() as target:
        done = await ended(target, "--config", str(file), "--seconds", "0.3", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["maxConcurrentConnections"] == 8


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("target_conections = 7", "did you mean target_connections?"),
        ("rate = = 7", "line 1"),
        ('target = "ws://127.0.0.1:8000/ws"\nrate = "fast"', "rate is a number"),
        ("rate = 7.0", "needs a target"),
        ("[load]\nrate = 7.0", "a table that means nothing: load"),
    ],
)
def test_a_file_that_means_nothing_is_exit_code_2(
    text: str, says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "load.toml"
    file.write_text(text)
    assert command.main(["load", "--config", str(file)]) == 2
    assert says in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "figure", "number"),
    [
        ("p95<100ms", "p95", 100.0),
        ("recovery.p95 < 2s", "recovery.p95", 2000.0),
        ("errors<=0.1%", "errors", 0.001),
    ],
)
def test_requirements_have_units(text: str, figure: str, number: float) -> None:
    found: Any = Requirement.of(text)
    assert (found.figure, found.number) == (figure, pytest.approx(number))

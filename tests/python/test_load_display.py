"""What ``umbel load`` shows, in a terminal and in pictures."""

import asyncio
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from programs import PYTHON_PATH
from test_load import serving
from test_load_command import QUICK
from umbel._command_line import command


def in_terminal(columns: int, *words: str) -> tuple[int, str]:
    """Run it with a terminal for both outputs. Returns the exit code and all that was written."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(PYTHON_PATH), "COLUMNS": str(columns), "TERM": "xterm"}
    words = (sys.executable, "-m", "umbel", "load", *words)
    with subprocess.Popen(words, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as program:
        os.close(theirs)
        said = b""
        while True:
            try:
                more = os.read(ours, 65536)
            except OSError:  # Linux says so that the other end is closed
                break
            if not more:
                break
            said += more
        os.close(ours)
    return program.returncode, said.decode()


@pytest.mark.parametrize("columns", [160, 55])
async def test_in_a_terminal_the_seconds_are_a_table_and_so_are_the_results(columns: int) -> None:
    async with serving() as target:
        code, said = await asyncio.to_thread(in_terminal, columns, target, *QUICK, "--seconds", "1.5")
    assert code == 0, said
    for part in ("p95 ms", "measured", "21 at once, 0 failed", "100.0000%"):
        assert part in said
    assert "\x1b[" in said
    assert "…" not in said and ("frames" in said.partition("at once")[0]) == (columns == 160)


async def test_a_picture_has_what_happened_in_each_second(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "load.svg"

    def load(target: str, name: str) -> int:
        return command.main(["load", target, *QUICK, "--seconds", "1.5", "--plot", str(tmp_path / name)])

    async with serving() as target:
        assert await asyncio.to_thread(load, target, file.name) == 0
    drawn = file.read_text()
    assert drawn.startswith("<?xml")
    for text in ("connections", "latency, ms", "messages"):
        assert f"<!-- {text} -->" in drawn
    for name, says in (
        ("load.wav", "svg"),
        ("nowhere/load.svg", "no such folder"),
        ("load", "ends in none"),
    ):
        assert load("ws://127.0.0.1:1/ws", name) == 2
        assert says in capfd.readouterr().err


def test_without_the_library_pictures_are_refused_before_the_load(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert command.main(["load", "ws://127.0.0.1:1/ws", "--plot", "load.svg"]) == 2
    assert "pip install 'umbel[plot]'" in capfd.readouterr().err

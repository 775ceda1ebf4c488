"""The log on standard error: what happens to lines that nobody reads, and that nobody waits for them."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from hostile import Peer
from programs import PYTHON_PATH, started
from serving import wait_until
from umbel._serving.stderr import MOST_WAITING, StderrHandler


def test_lines_of_debug_leave_room_for_warnings() -> None:
    handler = StderrHandler()
    handler._process = os.getpid()  # so that nothing is written
    long = "x" * 1000

    def log(level: int, count: int) -> None:
        for _ in range(count):
            handler.emit(logging.makeLogRecord({"msg": long, "levelno": level}))

    log(logging.DEBUG, 1000)
    assert 0 < handler.dropped < 1000
    dropped = handler.dropped
    log(logging.WARNING, 400)
    assert handler.dropped == dropped


def full_disk() -> IO[str]:
    """What takes nothing."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    return open("/dev/full", "w")


class Pipe:
    """Both ends of a pipe."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        self.reader = open(reader, errors="replace")  # noqa: SIM115
        self.writer = open(writer, "w")  # noqa: SIM115

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()  # first, for it ends the wait of a thread
        self.writer.close()

    def fill(self) -> None:
        """Write lines of full stops until nothing more fits."""
        descriptor = self.writer.fileno()
        os.set_blocking(descriptor, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(descriptor, 4095 * b"." + b"\n")
        os.set_blocking(descriptor, True)

    def lines(self, count: int) -> list[str]:
        return [self.reader.readline().rstrip("\n") for _ in range(count)]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    with Pipe() as it:
        yield it


@pytest.fixture
def handler() -> StderrHandler:
    return StderrHandler()


def lost(line: str) -> int:
    found = re.match(r"(\d+) log lines were dropped here", line)
    return int(found[1]) if found else 0


def test_lines_are_written_in_order(
    monkeypatch: pytest.MonkeyPatch, pipe: Pipe, handler: StderrHandler
) -> None:
    monkeypatch.setattr(sys, "stderr", pipe.writer)
    handler.handle(logging.makeLogRecord({"msg": "%s %d", "args": ("first", 1), "levelname": "INFO"}))
    for number in range(100):
        handler.write(f"{number} ü \udcff")
    assert re.fullmatch(r"\d{4}-\S+ \S+ INFO first 1", pipe.lines(1)[0])
    assert pipe.lines(100) == [f"{number} ü \\udcff" for number in range(100)]
    assert handler.dropped == 0


def test_lines_that_nobody_reads_are_dropped_and_counted_in_their_place(
    monkeypatch: pytest.MonkeyPatch, pipe: Pipe, handler: StderrHandler
) -> None:
    monkeypatch.setattr(sys, "stderr", pipe.writer)
    written = 0
    while handler.dropped < 10:
        handler.write(f"{written} {'x' * 1000}")
        written += 1
    assert handler._waiting < MOST_WAITING + 2000
    following = 0
    while following < written:
        line = pipe.lines(1)[0]
        if lost(line):
            following += lost(line)
        else:
            assert line.split()[0] == str(following)
            following += 1
    assert following == written
    handler.write("there is room again")
    assert pipe.lines(1) == ["there is room again"]
    assert handler.dropped == 10


@pytest.mark.parametrize("how", ["closed", "full"])
def test_lines_that_can_not_be_written_are_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch, pipe: Pipe, handler: StderrHandler, how: str
) -> None:
    with Pipe() as broken, full_disk() as full:
        broken.reader.close()
        monkeypatch.setattr(sys, "stderr", broken.writer if how == "closed" else full)
        for number in range(3):
            handler.write(f"{number}")
        handler.flush()
        assert handler.dropped == 3
        monkeypatch.setattr(sys, "stderr", pipe.writer)
        handler.write("somebody reads again")
        first, second = pipe.lines(2)
    assert (lost(first), second) == (3, "somebody reads again")


def test_a_line_that_was_written_in_part_does_not_spoil_the_next(
    monkeypatch: pytest.MonkeyPatch, pipe: Pipe, handler: StderrHandler
) -> None:
    monkeypatch.setattr(sys, "stderr", pipe.writer)
    write, room = os.write, 9

    def write_some(descriptor: int, data: memoryview) -> int:
        nonlocal room
        if not room:
            raise OSError(28, "No space left on device")
        count = write(descriptor, data[:room])
        room -= count
        return count

    monkeypatch.setattr(os, "write", write_some)
    handler.write("first")
    handler.write("second")
    handler.flush()
    room = 1000
    handler.write("third")
    first, second, note, third = pipe.lines(4)
    assert (first, second, lost(note), third) == ("first", "sec", 1, "third")


def test_a_descriptor_that_does_not_block_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, pipe: Pipe, handler: StderrHandler
) -> None:
    monkeypatch.setattr(sys, "stderr", pipe.writer)
    pipe.fill()
    os.set_blocking(pipe.writer.fileno(), False)
    handler.write("patient")
    handler.flush()
    assert handler.dropped == 0
    assert "patient\n" in pipe.reader


def test_a_stream_that_is_no_file(monkeypatch: pytest.MonkeyPatch, handler: StderrHandler) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    handler.write("in memory")
    handler.flush()
    assert stream.getvalue() == "in memory\n"
    monkeypatch.setattr(sys, "stderr", None)
    handler.write("nowhere")
    handler.flush()
    assert handler.dropped == 1


def test_a_record_without_a_text_is_named(
    monkeypatch: pytest.MonkeyPatch, pipe: Pipe, handler: StderrHandler
) -> None:
    monkeypatch.setattr(sys, "stderr", pipe.writer)
    values = {"msg": "%d", "args": ("one",), "pathname": "shop.py", "lineno": 7}
    handler.handle(logging.makeLogRecord(values))
    assert pipe.lines(1)[0].startswith("shop.py:7 logs what has no text: Traceback")


def test_a_signal_handler_logs_while_a_line_is_written(
    monkeypatch: pytest.MonkeyPatch, pipe: Pipe, handler: StderrHandler
) -> None:
    process, signals = os.getpid(), ["inner"]

    def interrupted() -> int:
        while signals:
            handler.write(signals.pop())
        return process

    monkeypatch.setattr(sys, "stderr", pipe.writer)
    monkeypatch.setattr(os, "getpid", interrupted)
    handler.write("outer")
    assert pipe.lines(2) == ["inner", "outer"]


def test_a_thread_that_can_not_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, pipe: Pipe, handler: StderrHandler
) -> None:
    monkeypatch.setattr(sys, "stderr", pipe.writer)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        handler.write("first")
        handler.flush()
    handler.write("second")
    assert pipe.lines(2) == ["first", "second"]


FORKS = """
import os, sys, threading
from umbel._serving.stderr import handler

said = sys.stderr
reader, writer = os.pipe()
sys.stderr = open(writer, "w")
for number in range(200):
    handler().write(f"{number} " + 1000 * "x")
child = os.fork()
if child == 0:
    handler().write("child")
    handler().flush()
    os._exit(handler().dropped)
lines = []
def read():
    with open(reader) as stream:
        lines.extend(line.split()[0] for line in stream)
thread = threading.Thread(target=read)
thread.start()
assert os.waitpid(child, 0)[1] == 0
handler().flush()
sys.stderr.close()
thread.join()
lines.remove("child")
assert lines == [str(number) for number in range(200)], lines
print("ended", file=said)
"""


def test_a_forked_child_writes_its_own_lines_only() -> None:
    with started("-W", "ignore::DeprecationWarning", "-c", FORKS) as program:
        assert program.end() == 0, program.output
        assert program.output == "ended\n"


# Servers


SHOP = """
import logging
from umbel import Umbel

app = Umbel(port=0, drain=0.5)

@app.on("fail")
def fail(client, message):
    raise LookupError("x" * 10_000)

@app.on("warn")
async def warn(client, message):
    logging.getLogger("shop").warning("x" * 10_000)

@app.on("dropped")
def dropped(client, message):
    return app._server.stats().log_lines_dropped

@app.background
async def tell():
    print(app._server.url, flush=True)

if __name__ == "__main__":
    app.run()
"""

COMMANDS = {"app.run": ["shop.py"], "umbel run": ["-m", "umbel", "run", "shop:app"]}


class Shop:
    """A server whose standard error is the test's, and a client of it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self._numbers = itertools.count()
        host, _, port = process.stdout.readline().strip().removeprefix("http://").partition(":")
        self.peer = Peer((host, int(port)))
        self.peer.upgrade()
        self.peer.read_json("connection_established")

    def ask(self, type: str) -> Any:
        """Send a message to a handler, and wait for its answer."""
        self.peer.send_json({"type": type, "id": next(self._numbers)})
        return self.peer.read_json("error" if type == "fail" else f"{type}_result")

    @property
    def dropped(self) -> int:
        return int(self.ask("dropped")["data"])

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(20)


@contextlib.contextmanager
def shop(place: Path, command: str, stderr: IO[str]) -> Iterator[Shop]:
    (place / "shop.py").write_text(SHOP)
    environment = {**os.environ, "PYTHONPATH": str(PYTHON_PATH), "PYTHONWARNINGS": "error"}
    process = subprocess.Popen(
        [sys.executable, *COMMANDS[command]],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        cwd=place,
        env=environment,
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            it = Shop(process)
            with it.peer:
                yield it
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ["fail", "warn"])
def test_a_server_whose_log_nobody_reads_goes_on(tmp_path: Path, pipe: Pipe, command: str, kind: str) -> None:
    with shop(tmp_path, command, pipe.writer) as server:
        pipe.writer.close()
        caused = 0
        while server.dropped < 5:
            server.ask(kind)
            caused += 1
            assert caused < 1000, "megabytes wait, and no line was dropped"
        lines: list[str] = []
        while not lines or not lost(lines[-1]):  # then there is room for the last lines
            lines.append(pipe.reader.readline())
        rest = threading.Thread(target=lambda: lines.extend(pipe.reader))
        rest.start()
        assert server.stop() == 0
        rest.join()
    text = "".join(lines)
    shown = len(re.findall(r"(?:LookupError: |WARNING )x{10000}$", text, re.MULTILINE))
    assert sum(map(lost, lines)) >= 5
    assert shown + sum(map(lost, lines)) == caused
    assert text.endswith("INFO stopped\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_ends_though_nobody_reads_its_log(tmp_path: Path, pipe: Pipe, command: str) -> None:
    pipe.fill()
    with shop(tmp_path, command, pipe.writer) as server:
        server.ask("fail")
        assert server.stop() == 0


def test_the_first_lines_wait_until_they_are_read(tmp_path: Path, pipe: Pipe) -> None:
    pipe.fill()
    with shop(tmp_path, "umbel run", pipe.writer) as server:
        pipe.writer.close()
        server.ask("fail")
        lines = (line for line in pipe.reader if line[0] != ".")
        assert "INFO listening on http" in next(lines)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("how", ["closed", "full"])
def test_a_server_whose_log_can_not_be_written_goes_on(
    tmp_path: Path, pipe: Pipe, command: str, how: str
) -> None:
    pipe.reader.close()
    with full_disk() as full, shop(tmp_path, command, pipe.writer if how == "closed" else full) as server:
        for kind in ("fail", "warn", "fail"):
            server.ask(kind)
        wait_until(lambda: server.dropped == 4, "where it listens and three more lines are counted", 10)
        assert server.stop() == 0


def test_a_command_that_fails_does_so_with_its_status_though_nobody_can_read_why(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "umbel", "run", "nothing:app"]
    with full_disk() as full:
        assert subprocess.run(command, stderr=full, cwd=tmp_path, timeout=20, check=False).returncode == 2

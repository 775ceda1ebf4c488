"""The log as lines of JSON: what is in them, and that each event is one line."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hostile import Peer, handshake
from programs import PYTHON_PATH, Program, started
from umbel._clients.about import about
from umbel._serving.stderr import StderrHandler
from umbel.logs import JsonFormatter

pytestmark = pytest.mark.timeout(60)

Line = dict[str, Any]


def formatted(**values: Any) -> Line:
    text = JsonFormatter().format(logging.makeLogRecord(values))
    assert text.isascii()
    assert len(text.splitlines()) == 1
    line: Line = json.loads(text)
    return line


def test_a_line_has_the_time_the_level_the_logger_and_the_message() -> None:
    line = formatted(name="shop", levelname="INFO", msg="%d sold", args=(3,), created=0.25)
    assert line == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "INFO",
        "logger": "shop",
        "message": "3 sold",
    }


@pytest.mark.parametrize(
    "text", ["two\nlines", "\u2028\u0085\x0b\x1c", "\x1b[2J\u202e", '"}', "\udcff", "\0"]
)
def test_nothing_in_a_message_ends_the_line(text: str) -> None:
    assert formatted(msg=text)["message"] == text
    assert formatted(msg="%s", args=(text,), name=text)["logger"] == text


def test_an_exception_is_a_field() -> None:
    try:
        raise LookupError("two\nlines")
    except LookupError:
        line = formatted(msg="failed", exc_info=sys.exc_info(), stack_info="Stack")
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("LookupError: two\nlines")
    assert line["stack"] == "Stack"


def test_a_record_without_a_text_is_named() -> None:
    line = formatted(msg="%d", args=("one",), pathname="shop.py", lineno=7)
    assert line["message"] == "shop.py:7 logs what has no text"
    assert "TypeError" in line["exception"]


def test_what_is_known_of_a_client_is_in_fields_and_nothing_else_of_the_record() -> None:
    line = formatted(msg="", umbel={"connection": 7, "incident": "i", "clientId": "c", "other": 1}, shop="x")
    assert list(line)[4:] == ["clientId", "connection", "incident"]
    assert "connection" not in formatted(msg="", umbel="a filter of the application")
    assert about("news", 5, incident="i") == {"umbel": {"incident": "i"}}


def test_lines_that_were_dropped_are_told_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    handler = StderrHandler()
    handler.use("json")
    monkeypatch.setattr(sys, "stderr", None)
    handler.say(logging.INFO, "nowhere")
    handler.flush()
    monkeypatch.setattr(sys, "stderr", stream)
    handler.say(logging.ERROR, "here\nagain")
    handler.flush()
    lost, line = map(json.loads, stream.getvalue().splitlines())
    assert (lost["level"], lost["message"][:25]) == ("WARNING", "1 log lines were dropped ")
    assert (line["level"], line["logger"], line["message"]) == ("ERROR", "umbel", "here\nagain")


# Servers

SHOP = """
import logging
from umbel import Umbel

app = Umbel(port=0, shards=2, drain=1, session_ttl=30)
app.channel("news:{topic}", open=True)

@app.authenticate
def who(request):
    if "broken" in request.query:
        raise LookupError("two\\nlines")
    return "ann"

@app.on("fail")
def fail(client, message):
    raise LookupError("gone")

@app.on("warn")
def warn(client, message):
    logging.getLogger("shop").warning("two\\nlines")

@app.websocket("/raw")
async def raw(socket):
    raise LookupError("raw")
"""

RUN = ("-m", "umbel", "run", "shop:app", "--log-format", "json")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def address_of(program: Program) -> tuple[str, int]:
    url = json.loads(program.wait_line("listening on "))["message"].removeprefix("listening on http://")
    host, _, port = url.rpartition(":")
    return host, int(port)


def lines_of(program: Program) -> list[Line]:
    return [json.loads(line) for line in program.lines]


def with_message(lines: list[Line], part: str) -> list[Line]:
    return [line for line in lines if part in line["message"]]


@contextmanager
def session(address: tuple[str, int], first: Line) -> Iterator[tuple[Peer, Line]]:
    with Peer(address) as peer:
        peer.upgrade(headers=["Sec-WebSocket-Protocol: umbel.v1.first, umbel.v1"])
        peer.send_json(first)
        yield peer, peer.read_json("connection_established")


def test_every_line_of_a_server_is_json_and_none_has_a_token(place: Path) -> None:
    with started(*RUN, "--log-level", "debug", "--ticket-path", "/api/v1/ticket", cwd=place) as program:
        address = address_of(program)
        for _ in range(6):
            with Peer(address) as stranger:
                stranger.send(handshake("/nowhere"))
                assert stranger.response().status == 404
        with Peer(address) as refused:
            refused.upgrade(
                "/ws?broken=1&token=s3cret-query", headers=["Authorization: Bearer s3cret-header"]
            )
            refused.expect_close(1011)
        with Peer(address) as stream:
            stream.send(b"GET /api/v1/stream?channel=news:a&ticket=s3cret-ticket HTTP/1.1\r\nHost: a\r\n\r\n")
            stream.response()
        with session(address, {"type": "authenticate", "token": "s3cret-first"}) as (peer, greeting):
            token = greeting["session"]["token"]
            peer.send_json({"type": "subscribe_updates", "channel": "news:a"})
            peer.read_json("subscription_established")
            peer.send_json({"type": "warn", "id": 1})
            peer.read_json("warn_result")
            peer.reset()
        resume = {"type": "resume", "session": token, "attempt": 1, "positions": {}, "token": "s3cret-second"}
        with session(address, resume) as (peer, again):
            assert again["resumed"]
            assert again["clientId"] == greeting["clientId"]
            peer.send_json({"type": "fail", "id": 2})
            incident = peer.read_json("error")["details"]["incident"]
        with Peer(address) as raw:
            raw.upgrade("/raw")
            raw_incident = raw.expect_close(1011).removeprefix("incident ")
        assert program.stop() == 0
    lines, mine = lines_of(program), greeting["clientId"]
    assert "s3cret" not in program.output
    assert token not in program.output
    assert token.partition(".")[2] not in program.output
    for line in lines:
        assert {"time", "level", "logger", "message"} <= set(line)
        assert datetime.fromisoformat(line["time"]).tzinfo is not None

    (failure,) = with_message(lines, "'fail'")
    assert (failure["level"], failure["incident"], failure["clientId"]) == ("ERROR", incident, mine)
    assert failure["exception"].endswith("LookupError: gone")
    (subscribed,) = with_message(lines, "subscribed to")
    (back,) = with_message(lines, "came back")
    assert subscribed["clientId"] == back["clientId"] == mine
    assert 0 < subscribed["connection"] < back["connection"] == failure["connection"]
    # The server may not notice the end of the first connection before the second one comes.
    away = {line["connection"] for line in with_message(lines, f"client {mine}: away")}
    assert away <= {subscribed["connection"], back["connection"]}
    opened = {line["connection"] for line in with_message(lines, "opened from")}
    assert {subscribed["connection"], back["connection"]} <= opened
    assert len(opened) == len(with_message(lines, "opened from"))

    (raw_failure,) = with_message(lines, "'/raw'")
    assert raw_failure["incident"] == raw_incident
    assert raw_failure["connection"] > back["connection"]
    (broken,) = with_message(lines, "authenticate failed")
    assert broken["incident"]
    assert broken["connection"] in opened

    (warned,) = (line for line in lines if line["logger"] == "shop")
    assert (warned["level"], warned["message"]) == ("WARNING", "two\nlines")
    assert lines[-1]["message"] == "stopped"


def test_what_strangers_cause_has_one_line_in_json_too(place: Path) -> None:
    with started(*RUN, cwd=place) as program:
        address = address_of(program)
        for _ in range(30):
            with Peer(address) as stranger:
                stranger.send(handshake("/nowhere"))
                assert stranger.response().status == 404
            with Peer(address) as refused:
                refused.upgrade("/ws?broken=1")
                refused.expect_close(1011)
        assert program.stop() == 0
    lines = lines_of(program)
    assert len(with_message(lines, "requests refused: ")) <= 2
    assert len(with_message(lines, "authenticate failed")) <= 2


def test_an_error_of_the_command_is_json_too(place: Path) -> None:
    with started("-m", "umbel", "run", "nothing:app", "--log-format", "json", cwd=place) as program:
        assert program.end() == 2
    (line,) = lines_of(program)
    assert (line["level"], line["logger"]) == ("ERROR", "umbel")
    assert "nothing" in line["message"]


def test_where_it_listens_is_json_when_the_log_is_quiet(place: Path) -> None:
    with started(*RUN, "--log-level", "error", cwd=place) as program:
        address_of(program)
        assert program.stop() == 0
    assert [line["message"][:12] for line in lines_of(program)] == ["listening on"]


PROGRAM = """
import logging, os, signal
from shop import app

before = logging.lastResort, logging.getLogRecordFactory(), logging.root.level

@app.background
async def stop():
    logging.getLogger("shop").warning("served")
    os.kill(os.getpid(), signal.SIGTERM)

app.run(log_format="json")
assert before == (logging.lastResort, logging.getLogRecordFactory(), logging.root.level)
assert logging.root.handlers == []
"""


def test_an_application_that_runs_itself_asks_for_json(place: Path) -> None:
    (place / "main.py").write_text(PROGRAM)
    with started("main.py", cwd=place) as program:
        assert program.end() == 0, program.output
    lines = lines_of(program)
    assert {line["logger"] for line in lines} == {"umbel", "shop"}
    assert lines[-1]["message"] == "stopped"


CONFIGURED = "import logging\nlogging.basicConfig()\n"


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_format_that_could_have_no_effect_is_refused(place: Path, form: str) -> None:
    (place / "configured.py").write_text(CONFIGURED + SHOP)
    with started("-m", "umbel", "run", "configured:app", "--log-format", form, cwd=place) as program:
        assert program.end() == 1
    assert "umbel.logs.JsonFormatter()" in program.output
    assert "listening" not in program.output
    (place / "main.py").write_text(f"{CONFIGURED}from shop import app\napp.run(log_format={form!r})\n")
    with started("main.py", cwd=place) as program:
        assert program.end() == 1
    assert "ConfigurationError: the application configures logging itself" in program.output


EMBEDDED = """
import asyncio, logging, sys
from shop import app
from umbel.logs import JsonFormatter

handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(JsonFormatter())
logging.getLogger("umbel").addHandler(handler)
logging.getLogger("umbel").setLevel(logging.INFO)

async def main():
    async with app.serve():
        pass

asyncio.run(main())
"""


def test_an_embedded_server_has_the_formatter_in_a_handler_of_the_application(place: Path) -> None:
    (place / "main.py").write_text(EMBEDDED)
    environment = {**os.environ, "PYTHONPATH": str(PYTHON_PATH), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == ""
    assert [json.loads(line)["message"] for line in done.stdout.splitlines()][-1] == "stopped"

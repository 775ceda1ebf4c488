"""What a developer gets wrong is said where it is written, with the cure."""

from __future__ import annotations

import logging
import logging.config
from pathlib import Path
from typing import Any

import pytest
from looping import on_loops
from programs import started
from umbel import Client, ConfigurationError, Settings, Umbel, WebSocket
from umbel._declaring.patterns import covers


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("room:{room}", "room:admin"),
        ("room:{room}", "room:{name}"),
        ("{x:path}", "room:{room}"),
        ("room:{rest:path}", "room:{a}:{b}"),
        ("a{x:path}", "ab{y:path}"),
        ("a", "a"),
    ],
)
def test_a_channel_that_nobody_would_ask_is_refused(app: Umbel, before: str, after: str) -> None:
    app.channel(before, open=True)
    with pytest.raises(ConfigurationError) as caught:

        @app.channel(after)
        def may_read(client: Client, **names: str) -> bool:
            return False

    assert repr(before) in str(caught.value) and repr(after) in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("room:admin", "room:{room}"),
        ("room:{room}", "room:{a}:{b}"),
        ("room:{a}:{b}", "room:{rest:path}"),
        ("a{x}", "a"),
        ("a{x}z", "a{y}"),
        ("{a}:{b}", "{x:path}"),
    ],
)
def test_channels_that_overlap_only_are_kept(before: str, after: str) -> None:
    assert not covers(before, after, ":")


def test_a_websocket_path_that_nobody_would_reach_is_refused(app: Umbel) -> None:
    @app.websocket("/files/{rest:path}")
    async def all_files(websocket: WebSocket, rest: str) -> None: ...

    with pytest.raises(ConfigurationError, match="can never be reached"):

        @app.websocket("/files/{name}")
        async def one_file(websocket: WebSocket, name: str) -> None: ...


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Umbel(hearbeat=1), "there is no setting 'hearbeat'. Did you mean heartbeat?"),  # type: ignore[call-arg]
        (lambda: Umbel().serve(max_conections=1), "Did you mean max_connections"),  # type: ignore[call-arg]
    ],
)
def test_a_misspelt_setting_gets_a_suggestion(make: Any, text: str) -> None:
    with pytest.raises(TypeError) as caught:
        make()
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"origins": ["https://example.org:443"]}, "write 'https://example.org'"),
        ({"origins": ["http://example.org:80"]}, "write 'http://example.org'"),
        ({"origins": ["https://*.example.org"]}, "name each origin in full"),
        ({"allowed_hosts": ["https://example.org:8000/"]}, "write 'example.org'"),
        ({"allowed_hosts": ["example.org:8000"]}, "write 'example.org'"),
        ({"allowed_hosts": ["[::1]:8000"]}, "write '[::1]'"),
        ({"allowed_hosts": ["bücher.example"]}, "browsers send such a name as 'xn--bcher-kva.example'"),
        ({"allowed_hosts": ["*"]}, "all below one, as in '*.example.org'"),
        ({"unix_socket_mode": 660}, "written in octal, as in 0o660"),
        ({"deflate": False, "client_context_takeover": True}, "client_context_takeover must be off"),
        ({"websocket_path": "/ws/{room}"}, "matches no request"),
        ({"websocket_path": "/ws?a=1"}, "matches no request"),
        ({"heartbeat": 0}, "heartbeat must be at least 0.05"),
        ({"tick": 100}, "tick must be 0 to 10"),
        ({"max_connections": 0}, "max_connections must be at least 1"),
    ],
)
def test_what_can_not_work_is_refused_where_it_is_written(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError) as caught:
        Umbel(**settings)
    assert text in str(caught.value)


def test_an_origin_with_another_port_can_match() -> None:
    origins = ["https://example.org:8443", "http://example.org:443", "http://[::1]:3000"]
    assert Settings(origins=origins).origins == origins


@on_loops
async def test_a_logger_that_was_switched_off_is_switched_on(
    app: Umbel, caplog: pytest.LogCaptureFixture
) -> None:
    logger, other = logging.getLogger("umbel"), logging.getLogger("somebody.else")
    logging.config.dictConfig({"version": 1})
    assert logger.disabled and other.disabled
    try:
        async with app.serve(port=0):
            assert not logger.disabled
            assert other.disabled, "nothing else is changed"
            assert "disable_existing_loggers" in caplog.text
    finally:
        for each in logging.root.manager.loggerDict.values():
            if isinstance(each, logging.Logger):
                each.disabled = False


EMBEDDED = """
import asyncio
from umbel import Umbel
async def main():
    server = await Umbel().start(port=0)
    server.stop()
    await server.stop()
    print("stopped", flush=True)
    assert server.stats().connections == 0
asyncio.run(main())
"""


def test_without_any_logging_it_says_where_it_listens(tmp_path: Path) -> None:
    (tmp_path / "embedded.py").write_text(EMBEDDED)
    with started("embedded.py", cwd=tmp_path) as program:
        assert program.url.startswith("http://127.0.0.1:")
        assert program.end() == 0


RUNS_ITSELF = """
from umbel import Umbel
app = Umbel(port=1)
app.run(port=2)
"""


def test_an_application_that_runs_itself_is_served_once_by_the_command(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(RUNS_ITSELF)
    with started("-m", "umbel", "run", "shop:app", "--port", "0", cwd=tmp_path) as program:
        assert program.url.startswith("http://127.0.0.1:")
        assert program.stop() == 0
        assert program.output.count("listening on") == 1
        assert "run() does nothing here" in program.output


def test_the_command_sets_how_much_is_logged(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("from umbel import Umbel\napp = Umbel()")
    command = ("-m", "umbel", "run", "shop:app", "--port", "0", "--log-level", "error")
    with started(*command, cwd=tmp_path) as program:
        assert program.url
        assert program.stop() == 0
        assert "INFO" not in program.output

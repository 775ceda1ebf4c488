import math
from dataclasses import FrozenInstanceError, fields
from typing import get_type_hints

import orjson
import pytest
from serving import ROOT
from umbel import Settings, _core
from umbel._declaring.declarations import Declarations
from umbel._declaring.options import Options
from umbel._declaring.settings import KINDS, PYTHON_ONLY


def test_the_keyword_arguments_are_the_fields():
    assert get_type_hints(Options) == get_type_hints(Settings)


def test_every_field_is_documented():
    from umbel._command_line.options import documented

    assert set(documented()) >= set(KINDS)


def test_settings_can_not_be_changed():
    with pytest.raises(FrozenInstanceError):
        Settings().tick = 1.0  # type: ignore[misc]


def test_the_core_accepts_the_defaults_and_knows_every_field():
    structure = Declarations().config()
    _core.Core(Settings().to_json(**structure), {})
    assert set(orjson.loads(Settings().to_json())) == {field.name for field in fields(Settings)} - PYTHON_ONLY


def test_the_tests_of_the_core_start_from_the_defaults():
    defaults = (ROOT / "tests" / "rust" / "config.json").read_text()
    assert orjson.loads(defaults) == orjson.loads(Settings().to_json(**Declarations().config()))


def another(name: str) -> object:
    """A value that differs from the default, and that the core accepts."""
    values = {
        "host": "::1",
        "unix_socket": "/tmp/x",
        "unix_socket_mode": 0o660,
        "origins": ["https://a.example"],
        "allowed_hosts": ["a.example", "*.b.example"],
        "trusted_proxies": ["10.0.0.0/8", "unix"],
        "proxy_header": "forwarded",
        "websocket_path": "/x",
        "stream_path": "/y",
        "session_path": "/api/v2/session",
        "publish_path": "/z",
        "history_path": "/api/v1/history",
        "ticket_path": "/api/v1/ticket",
        "send_buffer": 9999,
        "max_away": 7,
        "max_state_bytes": 7,
        "state_idle_seconds": 3600.0,
        "resume": "authenticate",
        "admin": "[::1]:8001",
        "deflate_level": 3,
        "deflate_window": 11,
        "handler_timeout": 3.5,
        "ticket_key": "a key for tickets of 32 bytes, or more",
    }
    if name in values:
        return values[name]
    default: object = getattr(Settings(), name)
    if isinstance(default, bool):
        return not default
    assert isinstance(default, int | float)
    return default + 1


TOGETHER = ("tls_cert", "tls_key", "admin_token", "dashboard")
"""Settings that make sense beside others only."""


@pytest.mark.parametrize("name", [name for name in KINDS if name not in TOGETHER])
def test_each_setting_reaches_the_core(name):
    value = another(name)
    settings = Settings(**{name: value})
    assert getattr(settings, name) == value
    config = orjson.loads(settings.to_json(**Declarations().config()))
    assert (name in PYTHON_ONLY) or config[name] == value
    _core.Core(orjson.dumps(config), {})


def test_certificate_and_key_belong_together():
    assert orjson.loads(Settings(tls_cert="c", tls_key="k").to_json())["tls_key"] == "k"
    with pytest.raises(ValueError, match="belong together"):
        Settings(tls_cert="c")


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("tick", -1, ValueError),
        ("tick", math.nan, ValueError),
        ("heartbeat", math.inf, ValueError),
        ("tick", "fast", TypeError),
        ("tick", None, TypeError),
        ("port", 80.5, TypeError),
        ("port", True, TypeError),
        ("deflate", 1, TypeError),
        ("host", None, TypeError),
        ("origins", "https://a.example", ValueError),
        ("origins", [1], TypeError),
        ("origins", ["a.example"], ValueError),
        ("origins", ["https://a.example/"], ValueError),
        ("origins", ["https://ä.example"], ValueError),
        ("origins", ["*"], ValueError),
        ("origins", ["wss://a.example"], ValueError),
        ("origins", ["https://a.example:0443"], ValueError),
        ("origins", ["https://a.example:99999"], ValueError),
        ("allowed_hosts", "a.example", TypeError),
        ("allowed_hosts", None, TypeError),
        ("allowed_hosts", [""], ValueError),
        ("allowed_hosts", ["a.example/x"], ValueError),
        ("allowed_hosts", ["a.*.example"], ValueError),
        ("allowed_hosts", ["a..example"], ValueError),
        ("allowed_hosts", ["[::1"], ValueError),
        ("allowed_hosts", ["fe80::1%eth0"], ValueError),
        ("trusted_proxies", "10.0.0.0/8", TypeError),
        ("trusted_proxies", ["10.0.0.1/8"], ValueError),
        ("trusted_proxies", ["proxy.example"], ValueError),
        ("trusted_proxies", ["*"], ValueError),
        ("trusted_proxies", [""], ValueError),
        ("proxy_header", "x-real-ip", ValueError),
        ("websocket_path", "", ValueError),
        ("websocket_path", "ws", ValueError),
        ("websocket_path", "/w s", ValueError),
        ("websocket_path", "/wés", ValueError),
        ("websocket_path", "/a/../ws", ValueError),
        ("stream_path", "/events/", ValueError),
        ("stream_path", "/", ValueError),
        ("stream_path", "/ws", ValueError),
        ("stream_path", "/api/v1/other", ValueError),
        ("tick", 1e300, ValueError),
        ("state_idle_seconds", -1, ValueError),
        ("state_idle_seconds", 119.9, ValueError),
        ("state_idle_seconds", None, TypeError),
        ("max_connections", 1 << 63, ValueError),
        ("origins", 7, TypeError),
        ("max_running", 0, ValueError),
        ("max_runs", 0, ValueError),
        ("handler_timeout", 0, ValueError),
    ],
)
def test_values_that_can_not_be_are_refused_with_their_name(name, value, error):
    with pytest.raises(error, match=name):
        Settings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("port", 70_000, "port must be 0 to 65535, not 70000"),
        ("backlog", 5_000_000_000, "backlog must be 1 to 2147483647"),
        ("deflate_window", 8, "deflate_window must be 9 to 15"),
        ("max_messages_per_second", 1 << 32, "0 to 4294967295"),
    ],
)
def test_ranges_are_said_in_words(name, value, says):
    with pytest.raises(ValueError, match=says):
        Settings(**{name: value})


def test_origins_are_what_browsers_send():
    origins = ["https://a.example", "http://localhost:3000", "http://[::1]:8000", "null", "app-x://id"]
    assert Settings(origins=origins).origins == origins


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("deflate_level", 0),
        ("unix_socket_mode", 660),
        ("unix_socket_mode", 0o444),
        ("max_head_bytes", 1023),
        ("max_head_bytes", 65_537),
        ("max_headers", 15),
        ("max_headers", 1025),
        ("max_message", 1),
        ("max_log_bytes", (1 << 20) - 1),
        ("max_held_bytes", 1),
        ("write_timeout", 0),
        ("message_timeout", 0),
        ("handshake_timeout", 0),
        ("tick", 11.0),
        ("event_queue", 0),
    ],
)
def test_what_the_core_can_not_serve_is_refused_at_once(name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        Settings(**{name: value})


def test_replacing_keeps_the_rest():
    assert Settings(tick=1.0).replace(port=1) == Settings(tick=1.0, port=1)
    assert (
        Settings(origins=("https://a.example",)).to_json()
        == Settings(origins=["https://a.example"]).to_json()
    )
    assert orjson.loads(Settings(origins="*").to_json())["origins"] == "*"

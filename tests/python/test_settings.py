import math
from dataclasses import FrozenInstanceError, fields
from typing import get_type_hints

import orjson
import pytest
from serving import ROOT
from umbel import Settings, _core
from umbel._declaring.declarations import Declarations
from umbel._declaring.settings import KINDS, PYTHON_ONLY, Options


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
        "origins": ["https://a.example"],
        "websocket_path": "/x",
        "send_buffer": 9999,
        "deflate_level": 3,
        "deflate_window": 11,
        "handler_timeout": 3.5,
    }
    if name in values:
        return values[name]
    default: object = getattr(Settings(), name)
    if isinstance(default, bool):
        return not default
    assert isinstance(default, int | float)
    return default + 1


TLS = ("tls_cert", "tls_key")


@pytest.mark.parametrize("name", [name for name in KINDS if name not in TLS])
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
        ("tick", 1e300, ValueError),
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
        ("max_message", 1),
        ("max_log_bytes", (1 << 20) - 1),
        ("tick", 11.0),
        ("event_queue", 0),
    ],
)
def test_the_core_refuses_settings_that_it_can_not_serve(name, value):
    with pytest.raises(ValueError):
        _core.Core(Settings(**{name: value}).to_json(**Declarations().config()), {})


def test_replacing_keeps_the_rest():
    assert Settings(tick=1.0).replace(port=1) == Settings(tick=1.0, port=1)
    assert (
        Settings(origins=("https://a.example",)).to_json()
        == Settings(origins=["https://a.example"]).to_json()
    )
    assert orjson.loads(Settings(origins="*").to_json())["origins"] == "*"

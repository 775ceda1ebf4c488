"""Declarations: what is accepted, and what the mistakes say."""

import functools
from pathlib import Path

import orjson
import pytest
from looping import on_loops
from umbel import ConfigurationError, Umbel


async def generator(run, message):
    yield "x"


def test_settings_are_keyword_arguments():
    assert Umbel(tick=0.5).settings.tick == 0.5
    with pytest.raises(TypeError):
        Umbel(tock=1)  # type: ignore[call-arg]


def test_decorators_give_the_function_back(app):
    async def function(client, message):
        pass

    assert app.on("a")(function) is function
    assert app.stream("b")(generator) is generator

    async def connect(client):
        pass

    assert app.on_connect(connect) is connect

    async def disconnect(client, code, reason):
        pass

    assert app.on_disconnect(disconnect) is disconnect
    assert app.authenticate(connect) is connect

    def guard(client, x):
        return True

    assert app.channel("a:{x}")(guard) is guard

    async def websocket(websocket):
        pass

    assert app.websocket("/a")(websocket) is websocket

    async def background():
        pass

    assert app.background(background) is background


@pytest.mark.parametrize("name", ["authenticate", "on_connect", "on_disconnect"])
def test_a_second_hook_is_refused(app, name):
    getattr(app, name)(lambda *arguments: None)
    with pytest.raises(ConfigurationError, match=f"already has a function for {name}"):
        getattr(app, name)(lambda *arguments: None)


@pytest.mark.parametrize(
    "type", ["publish", "heartbeat", "authenticate", "subscribe_updates", "resume", "error", ""]
)
def test_types_of_the_protocol_can_not_be_handled(app, type):
    with pytest.raises(ConfigurationError):
        app.on(type)
    with pytest.raises(ConfigurationError):
        app.stream(type)


def test_a_type_has_one_function(app):
    app.on("a")(print)
    app.stream("b")(generator)
    for taken in ("a", "b"):
        with pytest.raises(ConfigurationError, match="already have a function"):
            app.on(taken)
        with pytest.raises(ConfigurationError, match="already have a function"):
            app.stream(taken)


def test_ai_cancel_belongs_to_streams_in_either_order(app):
    app.on("ai_cancel")(print)
    with pytest.raises(ConfigurationError, match="ai_cancel"):
        app.stream("ask")(generator)
    other = Umbel()
    other.stream("ask")(generator)
    with pytest.raises(ConfigurationError, match="ai_cancel"):
        other.on("ai_cancel")


def test_a_stream_is_an_async_generator(app):
    async def coroutine(run, message):
        return "x"

    with pytest.raises(ConfigurationError, match="must be an async generator"):
        app.stream("a")(coroutine)

    class Model:
        async def answer(self, run, message):
            yield "x"

    app.stream("b")(Model().answer)
    app.stream("c")(functools.partial(generator))


@pytest.mark.parametrize(
    ("name", "example"),
    [("on", "type"), ("stream", "type"), ("channel", "name:{parameter}"), ("websocket", "/path")],
)
def test_a_decorator_without_its_name_says_what_to_write(app, name, example):
    with pytest.raises(ConfigurationError) as caught:
        getattr(app, name)(generator)
    assert str(caught.value).endswith(f'write @app.{name}("{example}") above generator')
    with pytest.raises(TypeError, match="must be a str"):
        getattr(app, name)(5)


@pytest.mark.parametrize(
    "declare",
    [
        lambda app: app.on("x"),
        lambda app: app.stream("x"),
        lambda app: app.websocket("/x"),
        lambda app: app.channel("x"),
        lambda app: lambda function: app.channel("x", publish=function),
        lambda app: app.authenticate,
        lambda app: app.on_connect,
        lambda app: app.on_disconnect,
        lambda app: app.background,
    ],
)
def test_a_function_that_would_fail_when_it_is_called_is_refused(app, declare):
    def sync_generator(*arguments, **keywords):
        yield True

    def too_many(a, b, c, d, e):
        pass

    for wrong in ("nonsense", sync_generator, too_many):
        with pytest.raises(ConfigurationError):
            declare(app)(wrong)
    it = app._declared
    assert not (it.handlers or it.streams or it.websockets or it.backgrounds)
    assert (it.authenticate, it.connect, it.disconnect) == (None, None, None)


def test_a_background_task_is_a_coroutine_function(app):
    with pytest.raises(ConfigurationError, match="async def"):
        app.background(lambda: None)


def test_channels_say_who_may_subscribe(app):
    app.channel("news:{topic}")
    with pytest.raises(ConfigurationError, match=r"'news:\{topic\}'.*open=True"):
        app._declared.config()


def test_a_channel_is_open_or_asks(app):
    declare = app.channel("a", open=True)
    with pytest.raises(ConfigurationError, match="drop open=True"):
        declare(lambda client: True)
    declare = app.channel("b")
    declare(lambda client: True)
    with pytest.raises(ConfigurationError, match="already has a function"):
        declare(lambda client: True)


@pytest.mark.parametrize(
    ("pattern", "options", "says"),
    [
        ("@x", {}, "private"),
        ("a:{client}", {}, "can't be called"),
        ("a", {"mode": "some"}, "mode"),
        ("a", {"overrun": "drop"}, "overrun"),
        ("a", {"replay": "tail"}, "replay"),
        ("a", {"history": 0}, "history"),
        ("a", {"history_bytes": 0}, "history_bytes"),
        ("a", {"history_seconds": float("inf")}, "history_seconds"),
        ("a", {"history_seconds": 0.9}, "history_seconds must be .* at least 1: a reader"),
        ("a:{x}", {"publish": lambda client, x: True}, "publish|called as"),
        ("a", {"publish": "no"}, "'no' is not a function"),
        ("a", {"open": "no"}, "open must be True or False"),
        ("a", {"compress": 0}, "compress must be True or False"),
    ],
)
def test_an_error_says_what_is_wrong_with_a_channel(app, pattern, options, says):
    with pytest.raises(ConfigurationError, match=says):
        app.channel(pattern, **options)


def test_the_structure_that_the_core_gets(app):
    app.channel("a", open=True, publish=True, mode="latest", overrun="close", history=5, compress=False)

    @app.channel("b:{x}", publish=lambda client, x, data: True)
    def guard(client, x):
        return True

    @app.websocket("/own/{x}")
    async def own(websocket, x):
        pass

    config = app._declared.config()
    first, second = config["channels"]
    assert first == {
        "pattern": "a",
        "subscribe": "open",
        "publish": "open",
        "history": 5,
        "history_bytes": 1 << 20,
        "history_seconds": 300.0,
        "mode": "latest",
        "overrun": "close",
        "compress": False,
        "sender": False,
        "replay": "head",
        "recheck": False,
        "claims": False,
        "versions": False,
        "resolves": False,
        "max_keys": 10_000,
        "state_bytes": 16 << 20,
        "presence": "no",
        "presence_asks": False,
        "presence_told": False,
    }
    assert (second["subscribe"], second["publish"]) == ("ask", "ask")
    assert config["websocket_routes"] == ["/own/{x}"]


def test_a_server_that_only_broadcasts_is_not_told_of_its_clients(app):
    app.channel("a", open=True, publish=True)
    config = app._declared.config()
    assert not (config["authenticate"] or config["notify_connect"])
    app.on("x")(print)
    assert app._declared.config()["notify_connect"]


def test_runs_come_before_a_catch_all(app):
    app.channel("{name:path}", open=True)
    app.stream("ask")(generator)
    assert [rule["pattern"] for rule in app._declared.config()["channels"]] == ["run:{run_id}", "{name:path}"]
    with pytest.raises(ConfigurationError, match="can never be reached"):
        app.channel("run:{id}", open=True)


def test_an_application_that_declares_runs_itself_decides_about_them(app):
    app.channel("run:{id}", open=True)
    app.channel("{name:path}", open=True)
    app.stream("ask")(generator)
    assert [rule["pattern"] for rule in app._declared.config()["channels"]] == ["run:{id}", "{name:path}"]


@pytest.mark.parametrize("own", ["run:stats", "run:{a}:{b}", "run:a{x}"])
def test_only_a_pattern_for_all_runs_says_who_may_read_them(app, own):
    @app.stream("ask")
    async def answer(run, message):
        yield "x"

    app.channel(own, open=True)
    app.channel("{name:path}", open=True)
    order = [rule["pattern"] for rule in app._declared.config()["channels"]]
    if own == "run:stats":  # otherwise the rule for runs would hide it
        assert order == [own, "run:{run_id}", "{name:path}"]
    else:
        assert order == ["run:{run_id}", own, "{name:path}"]


def test_paths_are_taken_once(app):
    app.page("/", "x")

    async def own(websocket):
        pass

    app.websocket("/own")(own)
    for path in ("/", "/own", "/ws"):
        with pytest.raises(ConfigurationError, match="already in use"):
            app.page(path, "x")
        with pytest.raises(ConfigurationError, match="already in use"):
            app.websocket(path)
    with pytest.raises(ConfigurationError, match="slash"):
        app.page("x", "x")
    with pytest.raises(ConfigurationError, match="called as"):
        app.websocket("/{a}/{b}")(own)


@pytest.mark.parametrize(
    "path",
    ["/healthz", "/readyz", "/metrics", "/dashboard", "/api/v1/runs", "/umbel/client.js", "/umbel/{x}"],
)
def test_paths_of_the_server_are_refused_where_they_are_declared(app, path):
    async def own(websocket, **parameters):
        pass

    with pytest.raises(ConfigurationError, match="belongs to Umbel itself"):
        app.websocket(path)(own)
    if "{" not in path:
        with pytest.raises(ConfigurationError, match="belongs to Umbel itself"):
            app.page(path, "x")
        with pytest.raises(ValueError, match=r"websocket_path .* belongs to Umbel itself"):
            Umbel(websocket_path=path)


def test_paths_beside_those_of_the_server_are_free(app):
    for path in ("/api/v2/x", "/umbel", "/metrics/x", "/healthzz"):
        app.page(path, "x")
    assert Umbel(websocket_path="/umbel").settings.websocket_path == "/umbel"


@pytest.mark.parametrize("type", ["authenticate", "authenticated", "resume", "snapshot", "token_expiring"])
def test_types_of_messages_of_later_versions_are_refused(app, type):
    with pytest.raises(ConfigurationError, match="answered by Umbel itself"):
        app.on(type)
    with pytest.raises(ConfigurationError, match="answered by Umbel itself"):
        app.stream(type)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [("@{x}", "private to a client"), ("$stats", "server's own"), ("${x:path}", "server's")],
)
def test_channels_that_are_not_the_applications_are_refused(app, pattern, says):
    with pytest.raises(ConfigurationError, match=says):
        app.channel(pattern, open=True)


def test_pages(app, tmp_path):
    file = tmp_path / "logo.png"
    file.write_bytes(b"PNG")
    app.page("/a", "ä")
    app.page("/b", b"x", "text/plain")
    app.page("/c", file)
    app.page("/d", b"x")
    assert app._declared.pages == {
        "/a": ("text/html; charset=utf-8", "ä".encode()),
        "/b": ("text/plain", b"x"),
        "/c": ("image/png", b"PNG"),
        "/d": ("application/octet-stream", b"x"),
    }
    with pytest.raises(OSError):
        app.page("/e", Path("/does/not/exist"))


@pytest.mark.parametrize("content_type", ["text/html\r\nSet-Cookie: a=b", "text/html\n", "a\0", "täxt/html"])
def test_a_content_type_that_would_break_the_header_is_refused_when_it_is_declared(app, content_type):
    with pytest.raises(ValueError, match="content type"):
        app.page("/a", b"x", content_type)
    assert app._declared.pages == {}


class Hostile:
    def __str__(self):
        raise RuntimeError

    __repr__ = __str__


def cycle():
    it = []
    it.append(it)
    return it


@on_loops
async def test_data_that_are_not_json_raise_in_the_caller_and_publish_nothing(app):
    app.channel("a", open=True)
    async with app.serve(port=0) as server:
        for bad in (object(), Hostile(), {Hostile(): 1}, cycle(), "\ud800", {1: 2}, b"x"):
            with pytest.raises(TypeError):
                app.publish("a", bad)
        with pytest.raises(ValueError, match="at most 16777216 bytes"):
            app.publish("a", "x" * (16 << 20))
        for fragment in ("", "{", "{}, {}", b"\xff", '"\n"'):
            with pytest.raises(ValueError):
                app.publish("a", orjson.Fragment(fragment))
        for channel in ("", "@private", "x" * 256, "a\nb", "\ud800"):
            with pytest.raises(ValueError):
                app.publish(channel, 1)
        with pytest.raises(ValueError):
            app.publish("a", 1, key="\ud800")
        with pytest.raises(ValueError, match="a key has at most 255 bytes"):
            app.publish("a", 1, key="ä" * 128)
        assert server.stats().published == 0
        assert app.publish("a", orjson.Fragment(b'{"ready":1}')).position.offset == 1
        assert app.publish("a", float("nan"), key="k").position.offset == 2

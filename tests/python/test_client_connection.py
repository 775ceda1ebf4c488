"""The client for Python programs: where it may connect, how it comes back, and what it leaves."""

from __future__ import annotations

import asyncio
import http
import random
import ssl
import time
from typing import Any

import pytest
from breaking import breaking
from connecting import FAST, cut, later, nothing_is_left, port_of, through, until
from serving import ROOT
from umbel import Client, ConnectionClosed, Message, Request, Umbel
from umbel.client import (
    Limits,
    OutcomeUnknown,
    RequestFailed,
    State,
    _timer,
    connect,
)
from websockets.asyncio.server import serve
from websockets.exceptions import InvalidStatus


async def test_the_server_ends_the_connection_for_good(app: Umbel) -> None:
    app.channel("task:{x}", open=True)
    clients: list[Client] = []
    app.on_connect(clients.append)

    @app.on("slow")
    async def slow(client: Client, message: Message) -> None:
        await asyncio.sleep(1)

    async with app.serve(port=0) as server, connect(server.url) as umbel:
        updates = umbel.subscribe("task:1")
        asking = asyncio.create_task(umbel.request("slow"))
        await updates.ready()
        clients[0].close(4500, "this account is locked")
        with pytest.raises(ConnectionClosed, match="this account is locked") as closed:
            await anext(updates)
        assert closed.value.code == 4500
        with pytest.raises(OutcomeUnknown):
            await asking
        assert umbel.state == State("closed", 4500, "this account is locked")


async def test_what_can_not_pass_raises(app: Umbel) -> None:
    @app.authenticate
    def who(request: Request) -> str | None:
        return {"t": "ann"}.get(request.token or "")

    async with app.serve(port=0, origins=["https://example.org"]) as server:
        for url, options, words in (
            (f"{server.url}/nothing", {}, "no connection to .*/nothing: .*status 404: is this the path"),
            (server.url, {"origin": "https://example.com"}, "status 403"),
            (server.url, {"token": "x"}, "4401"),
            (server.url, {}, "4401"),
            (server.url, {"additional_headers": 5}, "no connection to .*int"),
        ):
            with pytest.raises(ConnectionClosed, match=words) as refused:
                async with asyncio.timeout(5), connect(url, **options):  # type: ignore[arg-type]
                    pass
            if "status" in words:
                assert isinstance(refused.value.__cause__, InvalidStatus)
        async with connect(server.url, token="t") as umbel:
            assert umbel.subject == "ann"
    assert nothing_is_left()


async def test_a_server_of_another_kind() -> None:
    async def page(connection: Any, request: Any) -> Any:
        return connection.respond(http.HTTPStatus.OK, "<html>")

    async def nothing(connection: Any) -> None:
        await connection.wait_closed()

    async with serve(nothing, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        with pytest.raises(ConnectionClosed, match="another protocol"):
            async with connect(f"ws://127.0.0.1:{port}/ws"):
                pass
    async with serve(nothing, "127.0.0.1", 0, process_request=page) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        states: list[State] = []
        with pytest.raises(TimeoutError):
            async with (
                asyncio.timeout(0.3),
                connect(f"http://127.0.0.1:{port}", limits=FAST, on_state=states.append),
            ):
                pass
        assert "status 200" in states[1].reason
        assert any(state.failing for state in states)
    for url in ("127.0.0.1:8000", "ftp://example.org"):
        with pytest.raises(ValueError, match="not the URL of a server"):
            connect(url)
    await until(nothing_is_left)


async def test_a_worker_may_be_started_before_its_server(app: Umbel) -> None:
    async with breaking(1) as (url, network), app.serve(port=0) as server:
        asyncio.get_running_loop().call_later(0.1, lambda: setattr(network, "port", port_of(server)))
        async with asyncio.timeout(5), connect(url, limits=FAST) as umbel:
            assert umbel.state.name == "connected"


async def test_a_token_function(app: Umbel) -> None:
    asked: list[str | None] = []

    @app.authenticate
    def who(request: Request) -> str | None:
        asked.append(request.token)
        return "ann" if request.token in ("2", "4") else None

    calls = 0

    async def token() -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("no network")
        if calls == 3:
            await asyncio.sleep(60)
        return str(calls)

    limits = Limits(window=0.01, base=0.01, attempts=100, attempts_in=1, attempt_timeout=0.3)
    async with (
        app.serve(port=0, reconnect_window=0.02) as server,
        breaking(port_of(server)) as (url, network),
    ):
        async with connect(url, token=token, limits=limits) as umbel:
            assert umbel.subject == "ann"
            assert calls == 2
            cut(network)
            await until(lambda: calls == 4 and umbel.state.name == "connected")
        assert calls == 4
        assert asked == ["2", "4"]
        with pytest.raises(TypeError, match=r"no option 'tokn'\. Did you mean token"):
            connect(url, tokn="s3cret")
        with pytest.raises(TypeError, match="the token is"):
            connect(url, token=5)  # type: ignore[arg-type]
        states: list[State] = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), connect(url, token=lambda: 5, on_state=states.append):  # type: ignore[arg-type]
                pass
        assert "returned a int" in states[1].reason
    assert nothing_is_left()


async def test_cancelled_at_any_await_it_leaves_nothing(app: Umbel) -> None:
    app.channel("task:{x}", open=True, publish=True)

    @app.on("slow")
    async def slow(client: Client, message: Message) -> None:
        await asyncio.sleep(1)

    async def token() -> None:
        await asyncio.sleep(0.001)

    async def work(url: str, port: int) -> None:
        async with connect(url, token=token, limits=FAST) as umbel:
            updates = umbel.subscribe("task:1")
            await updates.ready()
            await umbel.publish("task:1", 1)
            await anext(updates)
            await umbel.request("slow")

    dice = random.Random(3)
    async with (
        app.serve(port=0, reconnect_window=0.02) as server,
        breaking(port_of(server)) as (url, network),
    ):
        for _ in range(60):
            task = asyncio.create_task(work(url, network.port))
            await asyncio.sleep(dice.random() * 0.03)
            if dice.random() < 0.3:
                cut(network)
            task.cancel()
            began = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < 3
            ours = [it for it in asyncio.all_tasks() if it.get_name().startswith("umbel client")]
            assert not ours
        await until(lambda: not app.subscribers("task:1"))


async def test_after_many_reconnects_everything_is_level(
    app: Umbel, caplog: pytest.LogCaptureFixture
) -> None:
    app.channel("task:{x}", open=True)

    @app.on("hello")
    async def hello(client: Client, message: Message) -> str:
        return "you"

    asked: list[asyncio.Task[Any]] = []

    connected: list[State] = []

    def ask(state: State) -> None:
        if state.name == "connected":
            connected.append(state)
            if len(asked) < 100:
                asked.append(asyncio.create_task(umbel.request("hello")))

    reconnects = 100
    async with (
        app.serve(port=0, reconnect_window=0.02) as server,
        through(server, on_state=later(lambda: ask)) as (umbel, network),
    ):
        updates = umbel.subscribe("task:1")
        await updates.ready()
        counts = []
        for number in range(reconnects):
            before = len(connected)
            cut(network)
            await until(lambda before=before: len(connected) > before)  # type: ignore[misc]
            app.publish("task:1", number)
            assert (await anext(updates))["data"] == number
            counts.append(len([it for it in asyncio.all_tasks() if it.get_name().startswith("umbel client")]))
        assert max(counts[10:]) <= 3
        assert {await it for it in asked} == {"you"}
        assert len(asked) == reconnects
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


async def test_a_silent_server_is_replaced(app: Umbel) -> None:
    limits = Limits(window=0.01, base=0.01, attempts=100, attempts_in=1, answer_timeout=0.2)
    app.channel("task:{x}", open=True)
    async with (
        app.serve(port=0, reconnect_window=0.02, heartbeat=1) as server,
        breaking(port_of(server)) as (url, network),
        connect(url, limits=limits) as umbel,
    ):
        updates = umbel.subscribe("task:1")
        await updates.ready()
        for link in list(network.links):
            link.stalled = True
        app.publish("task:1", 1)
        assert (await asyncio.wait_for(anext(updates), 5))["data"] == 1
        network.heal()


async def test_after_a_sleep_the_server_has_to_answer(app: Umbel, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(window=0.01, base=0.01, attempts=100, attempts_in=1, probe_timeout=0.2)
    async with (
        app.serve(port=0, reconnect_window=0.02) as server,
        breaking(port_of(server)) as (url, network),
    ):
        states: list[State] = []
        async with connect(url, limits=limits, on_state=states.append) as umbel:
            real = _timer.drift
            monkeypatch.setattr(_timer, "drift", lambda: real() + 8 * 3600)
            await asyncio.sleep(2)
            assert [state.name for state in states] == ["connecting", "connected"]  # it has answered
            for link in list(network.links):
                link.stalled = True
            monkeypatch.setattr(_timer, "drift", lambda: real() + 16 * 3600)
            await until(lambda: len(states) == 5, 5)
            assert states[2].code == 4408
            assert umbel.state.name == "connected"
            network.heal()


async def test_what_a_state_function_raises_is_logged(app: Umbel, caplog: pytest.LogCaptureFixture) -> None:
    def fail(state: State) -> None:
        raise RuntimeError("expected")

    async with app.serve(port=0) as server, connect(server.url, on_state=fail) as umbel:
        with pytest.raises(RequestFailed, match="unknown_type"):
            await umbel.request("x")
    assert "on_state has failed" in caplog.text


async def test_close_in_the_middle_of_anything(app: Umbel) -> None:
    app.channel("task:{x}", open=True)
    async with app.serve(port=0, reconnect_window=0.02) as server:

        def end(state: State) -> None:
            if state.name == "connected":
                umbel.close()

        async with connect(server.url) as umbel:
            updates = umbel.subscribe("task:1")
            umbel.close()
            umbel.close()
            assert [update async for update in updates] == []
        async with through(server, on_state=later(lambda: end)) as (umbel, network):
            cut(network)
            await until(lambda: umbel.state.name == "closed")
    await until(nothing_is_left)


def test_limits_are_checked() -> None:
    for wrong in ({"cap": -1}, {"attempts": 0}, {"window": float("nan")}):
        with pytest.raises(ValueError, match=r"can't be|at least"):
            Limits(**wrong)  # type: ignore[arg-type]


async def test_it_trusts_whom_it_is_told_to(app: Umbel) -> None:
    place = ROOT / "tests" / "python" / "tls"
    files = {"tls_cert": str(place / "certificate.pem"), "tls_key": str(place / "key.pem")}
    async with app.serve(port=0, **files) as server:  # type: ignore[arg-type]
        with pytest.raises(ConnectionClosed, match="certificate verify failed"):
            async with connect(server.url):
                pass
        trust = ssl.create_default_context(cafile=files["tls_cert"])
        async with connect(server.url, ssl=trust) as umbel:
            assert umbel.state.name == "connected"


async def test_a_program_that_blocks_the_loop_loses_nothing(app: Umbel) -> None:
    app.channel("task:{x}", open=True)
    states: list[State] = []
    async with (
        app.serve(port=0, heartbeat=1, reconnect_window=0.02) as server,
        through(server, on_state=states.append) as (umbel, _),
    ):
        updates = umbel.subscribe("task:1")
        await updates.ready()
        for number in range(10):
            app.publish("task:1", number)
        time.sleep(2.5)  # the server hears nothing for two heartbeats, and closes
        for number in range(10, 20):
            app.publish("task:1", number)
        assert [(await anext(updates))["data"] for _ in range(20)] == list(range(20))
        await until(lambda: any(state.name == "waiting" for state in states))
        await until(lambda: umbel.state.name == "connected")
        app.publish("task:1", "after")
        assert (await anext(updates))["data"] == "after"
        assert len([state for state in states if state.name == "waiting"]) == 1

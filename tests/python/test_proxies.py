"""Clients that come through proxies, which say where they are."""

from __future__ import annotations

import logging
import pathlib
from contextlib import AsyncExitStack
from typing import Any

import pytest
from calling import CALLS, HISTORY, program
from streams import PATH, stream
from umbel import Client, ConfigurationError, Message, Server, Umbel
from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import InvalidStatus
from wire import Wire, wire

ANN, BEN = "203.0.113.7", "203.0.113.8"


def application(**settings: Any) -> Umbel:
    app = Umbel(**{"trusted_proxies": ["127.0.0.1"], **settings})
    app.channel("news", open=True)

    @app.on("where")
    def where(client: Client, message: Message) -> str:
        return client.request.peer

    return app


def of(text: str) -> dict[str, str]:
    return {"X-Forwarded-For": text}


async def where(server: Server, **options: Any) -> str:
    async with wire(server, **options) as client:
        await client.say("where", id=1)
        return str((await client.hear("where_result"))["data"])


async def test_functions_and_the_log_have_the_address_of_the_client(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "umbel")
    async with application().serve(port=0) as server:
        assert await where(server, additional_headers=of(f"192.0.2.1, {ANN}")) == ANN
        assert await where(server, additional_headers=of("2001:db8::1")) == "2001:db8::1"
        assert (await where(server)).startswith("127.0.0.1:"), "it is the proxy itself"
        with pytest.raises(InvalidStatus):
            await connect(
                server.url.replace("http", "ws") + "/nowhere", proxy=None, additional_headers=of(ANN)
            )
    assert f'opened from {ANN} for "/ws"' in caplog.text
    assert f'the last one from {ANN} for "/nowhere"' in caplog.text


async def test_nobody_else_is_believed() -> None:
    async with application(trusted_proxies=["10.0.0.0/8"]).serve(port=0) as server:
        assert (await where(server, additional_headers=of(ANN))).startswith("127.0.0.1:")
    async with application(trusted_proxies=[]).serve(port=0) as server:
        assert (await where(server, additional_headers=of(ANN))).startswith("127.0.0.1:")


async def test_the_standard_header_counts_where_it_is_named() -> None:
    async with application(proxy_header="forwarded").serve(port=0) as server:
        headers = {"Forwarded": f'for="{ANN}:80";proto=https', **of(BEN)}
        assert await where(server, additional_headers=headers) == ANN


async def test_a_header_that_nobody_is_believed_in_is_no_setting() -> None:
    with pytest.raises(ConfigurationError, match="no effect without trusted_proxies"):
        await application(trusted_proxies=[], proxy_header="forwarded").serve(port=0).__aenter__()


async def test_a_proxy_at_the_unix_socket_is_believed_where_it_is_named(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "socket")
    for proxies, expected in ((["unix"], ANN), (["127.0.0.1"], "unix")):
        async with (
            application(unix_socket=path, trusted_proxies=proxies).serve(),
            unix_connect(path, "ws://localhost/ws", additional_headers=of(ANN)) as connection,
        ):
            client = Wire(connection)
            await client.say("where", id=1)
            assert (await client.hear("where_result"))["data"] == expected


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_limits_are_those_of_the_client(kind: str, tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "socket")
    unix = {"unix_socket": path, "trusted_proxies": ["unix"]} if kind == "unix" else {"port": 0}
    async with (
        application(max_connections_per_address=2).serve(**unix) as server,  # type: ignore[arg-type]
        AsyncExitStack() as clients,
    ):

        async def come(text: str | None) -> int:
            headers = {} if text is None else of(text)
            try:
                if kind == "unix":
                    opening = unix_connect(path, "ws://localhost/ws", additional_headers=headers)
                else:
                    url = server.url.replace("http", "ws") + "/ws"
                    opening = connect(url, proxy=None, additional_headers=headers)
                await clients.enter_async_context(opening)
            except InvalidStatus as error:
                return error.response.status_code
            return 101

        assert [await come(ANN) for _ in range(3)] == [101, 101, 429]
        assert [await come(text) for text in (BEN, f"{ANN}, {BEN}", f"{ANN}, {BEN}")] == [101, 101, 429]
        networks = [f"2001:db8:0:1::{number}" for number in range(3)]
        assert [await come(text) for text in networks] == [101, 101, 429], "they are one subscriber"
        if kind == "tcp":
            assert [await come(None) for _ in range(3)] == [101, 101, 429], "the proxy itself"
            async with stream(server, f"{PATH}/news", of(ANN)) as news:
                assert news.status == 200
                closed = (await news.hear("closed")).data
                assert (closed["code"], closed["reconnect"]) == (4429, True)
        await clients.aclose()
        assert [await come(ANN) for _ in range(2)] == [101, 101], "their places are free again"


async def test_one_connection_of_a_proxy_may_bring_calls_of_many_clients() -> None:
    app = application(max_connections_per_address=1, **CALLS)
    async with app.serve(port=0) as server, program(server) as proxy:
        for headers in (of(ANN), of(ANN), of(BEN), {}, {}, of("unknown"), of("unknown"), of(ANN)):
            assert (await proxy.get(f"{HISTORY}/news", **headers)).status == 200
        async with wire(server, additional_headers=of(BEN)):
            assert (await proxy.get(f"{HISTORY}/news", **of(ANN))).status == 200
            assert (await proxy.get(f"{HISTORY}/news", **of(BEN))).status == 429


async def test_a_header_that_can_not_be_read_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with application().serve(port=0) as server:
        for text in ("unknown", f"{ANN},", "x" * 4000):
            assert (await where(server, additional_headers=of(text))).startswith("127.0.0.1:")
    [line] = [record.getMessage() for record in caplog.records if "proxy" in record.getMessage()]
    assert "a proxy at 127.0.0.1:" in line
    assert "x-forwarded-for that can't be read" in line

"""Python clients: `websockets` (asyncio and threads) and `aiohttp`, against the examples."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol

import aiohttp
import pytest
import websockets
import websockets.asyncio.client
import websockets.sync.client
from dialogue import bytes_received, follow, received, sent
from serving import Server, example, http_status
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import PerMessageDeflate

pytestmark = pytest.mark.timeout(60)

KIB = 1 << 10
MIB = 1 << 20


class Link(Protocol):
    """What the tests need of any client library."""

    protocol: str | None
    compressed: bool

    async def send(self, message: str | bytes) -> None: ...
    async def receive(self) -> str | bytes: ...
    async def ping(self) -> None: ...
    async def close(self, code: int, reason: str) -> None: ...
    async def closed(self) -> tuple[int, str]: ...
    def bytes_received(self) -> int: ...


class WebsocketsLink:
    def __init__(self, connection: websockets.asyncio.client.ClientConnection) -> None:
        self.connection = connection
        self.protocol: str | None = connection.subprotocol
        self.compressed = any(isinstance(each, PerMessageDeflate) for each in connection.protocol.extensions)

    async def send(self, message: str | bytes) -> None:
        await self.connection.send(message)

    async def receive(self) -> str | bytes:
        return await self.connection.recv()

    async def ping(self) -> None:
        await (await self.connection.ping(b"are you there"))

    async def close(self, code: int, reason: str) -> None:
        await self.connection.close(code, reason)

    async def closed(self) -> tuple[int, str]:
        await self.connection.wait_closed()
        assert self.connection.close_code is not None
        return self.connection.close_code, self.connection.close_reason or ""

    def bytes_received(self) -> int:
        return bytes_received(self.connection.transport.get_extra_info("socket"))


class AiohttpLink:
    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self.connection = connection
        self.protocol = connection.protocol
        self.compressed = connection.compress > 0

    async def send(self, message: str | bytes) -> None:
        await (
            self.connection.send_str(message)
            if isinstance(message, str)
            else self.connection.send_bytes(message)
        )

    async def receive(self) -> str | bytes:
        message = await self.connection.receive()
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        data: str | bytes = message.data
        return data

    async def ping(self) -> None:
        await self.connection.ping(b"are you there")
        while (message := await self.connection.receive()).type != aiohttp.WSMsgType.PONG:
            assert message.type == aiohttp.WSMsgType.TEXT, message
        assert message.data == b"are you there"

    async def close(self, code: int, reason: str) -> None:
        await self.connection.close(code=code, message=reason.encode())

    async def closed(self) -> tuple[int, str]:
        reason = ""
        while not self.connection.closed:
            message = await self.connection.receive()
            if message.type == aiohttp.WSMsgType.CLOSE:
                reason = message.extra or ""
        assert self.connection.close_code is not None
        return self.connection.close_code, reason

    def bytes_received(self) -> int:
        return bytes_received(self.connection.get_extra_info("socket"))


@contextlib.asynccontextmanager
async def websockets_link(
    url: str, *, deflate: bool = True, protocol: str | None = None
) -> AsyncIterator[Link]:
    connection = await websockets.asyncio.client.connect(
        url,
        compression="deflate" if deflate else None,
        subprotocols=[websockets.Subprotocol(protocol)] if protocol else None,
        max_size=32 * MIB,
        ping_interval=None,
        proxy=None,
    )
    try:
        yield WebsocketsLink(connection)
    finally:
        with contextlib.suppress(
            AttributeError
        ):  # websockets 17.4, when the transport ended in the middle of a write
            await connection.close()


@contextlib.asynccontextmanager
async def aiohttp_link(url: str, *, deflate: bool = True, protocol: str | None = None) -> AsyncIterator[Link]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            url,
            compress=15 if deflate else 0,
            protocols=[protocol] if protocol else [],
            max_msg_size=32 * MIB,
            autoping=False,
        ) as connection,
    ):
        yield AiohttpLink(connection)


Open = Callable[..., contextlib.AbstractAsyncContextManager[Link]]


@pytest.fixture(params=[websockets_link, aiohttp_link], ids=["websockets", "aiohttp"])
def open_link(request: pytest.FixtureRequest) -> Open:
    opener: Open = request.param
    return opener


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(45):
            await scenario

    asyncio.run(limited())


async def message(link: Link, *kinds: str) -> dict[str, Any]:
    """Receive until a message has one of these types."""
    while (answer := received(await link.receive()))["type"] not in kinds:
        assert answer["type"] != "error", answer
    return answer


# -------------------------------------------------------------------------------------------------- fan-out


@pytest.mark.parametrize("protocol", ["umbel.v1", None])
def test_the_subprotocol_is_agreed_on_or_left_out(
    open_link: Open, fanout: Server, protocol: str | None
) -> None:
    async def scenario() -> None:
        async with open_link(fanout.url(), protocol=protocol) as link:
            assert link.protocol == protocol
            hello = received(await link.receive())
            assert hello["type"] == "connection_established"
            assert {
                "clientId",
                "heartbeat",
                "tick",
                "timestamp",
            } <= hello.keys()
            await link.send(sent(type="heartbeat", id="h1"))
            answer = received(await link.receive())
            assert (answer["type"], answer["id"]) == ("heartbeat_ack", "h1")

    run(scenario())


@pytest.mark.parametrize("deflate", [True, False], ids=["deflate", "plain"])
def test_publications_arrive_in_order_without_a_hole(open_link: Open, fanout: Server, deflate: bool) -> None:
    count = 500
    channel = f"order:{open_link.__name__}:{deflate}"

    async def scenario() -> None:
        async with open_link(fanout.url(), deflate=deflate) as reader, open_link(fanout.url()) as writer:
            assert reader.compressed == deflate
            await reader.send(sent(type="subscribe_updates", channel=channel, id=1))
            start = await message(reader, "subscription_established")
            assert (start["channel"], start["id"]) == (channel, 1)

            async def publish() -> list[int]:
                for number in range(count):
                    data = {"number": number, "text": "payload " * 50}
                    await writer.send(sent(type="publish", channel=channel, data=data, id=number))
                return [(await message(writer, "published"))["offset"] for _ in range(count)]

            publishing = asyncio.create_task(publish())
            numbers: list[int] = []
            position = start["offset"]
            while len(numbers) < count:
                batch = await message(reader, "batched_updates")
                data = follow([batch], channel, position)
                position += len(data)
                numbers += [each["number"] for each in data]
            assert numbers == list(range(count))
            assert await publishing == list(range(start["offset"] + 1, start["offset"] + count + 1))
            on_wire = reader.bytes_received()
            assert (on_wire < count * 400 / 2) if deflate else (on_wire > count * 400)

    run(scenario())


def test_an_unsubscribed_channel_falls_silent(open_link: Open, fanout: Server) -> None:
    channel = f"silent:{open_link.__name__}"

    async def scenario() -> None:
        async with open_link(fanout.url()) as link:
            await link.send(sent(type="subscribe_updates", channels=[channel, channel + ":other"]))
            for _ in range(2):
                await message(link, "subscription_established")
            await link.send(sent(type="unsubscribe_updates", channel=channel, id="u"))
            ended = await message(link, "subscription_ended")
            assert (ended["channel"], ended["id"]) == (channel, "u")
            await link.send(sent(type="publish", channel=channel, data="unheard"))
            await link.send(sent(type="publish", channel=channel + ":other", data="heard"))
            batch = await message(link, "batched_updates")
            assert [update["data"] for update in batch["updates"]] == ["heard"]

    run(scenario())


def test_the_same_id_is_not_published_twice(open_link: Open, fanout: Server) -> None:
    async def scenario() -> None:
        async with open_link(fanout.url()) as link:
            text = sent(type="publish", channel=f"twice:{open_link.__name__}", data=1, id="once")
            await link.send(text)
            first = await message(link, "published")
            await link.send(text)
            assert (await message(link, "published"))["offset"] == first["offset"]

    run(scenario())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"type": "no_such_type", "id": 5}', "unknown_type"),
        ("{not json", "bad_message"),
        ("[1]", "bad_message"),
    ],
)
def test_a_wrong_message_gets_an_error_and_nothing_worse(
    open_link: Open, fanout: Server, text: str, code: str
) -> None:
    async def scenario() -> None:
        async with open_link(fanout.url()) as link:
            await message(link, "connection_established")
            await link.send(text)
            answer = received(await link.receive())
            assert (answer["type"], answer["code"]) == ("error", code)
            assert answer["message"]
            assert answer.get("id") == (5 if "id" in text else None)
            await link.send(sent(type="heartbeat"))
            await message(link, "heartbeat_ack")

    run(scenario())


# ----------------------------------------------------------------------------------------------------- echo


@pytest.mark.parametrize("deflate", [True, False], ids=["deflate", "plain"])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 1 * MIB, 16 * MIB])
def test_messages_come_back_as_they_were(open_link: Open, echo: Server, size: int, deflate: bool) -> None:
    pattern = "Zürich, 東京, 🌍, "
    text = (pattern * (size // len(pattern.encode()) + 1)).encode()[:size].decode(errors="ignore")
    binary = (os.urandom(KIB) * (size // KIB + 1))[:size]

    async def scenario() -> None:
        async with open_link(echo.url("/any/path"), deflate=deflate) as link:
            assert link.compressed == deflate
            for payload in (text, binary):
                await link.send(payload)
                assert await link.receive() == payload

    run(scenario())


def test_the_limit_is_of_the_message_and_not_of_its_compressed_form(open_link: Open, echo: Server) -> None:
    """Random bytes grow by up to a quarter of a percent when they are deflated."""
    payload = os.urandom(16 * MIB)

    async def scenario() -> None:
        async with open_link(echo.url("/"), deflate=True) as link:
            await link.send(payload)
            assert await link.receive() == payload

    run(scenario())


def test_a_message_over_the_limit_closes_with_1009(open_link: Open, echo: Server) -> None:
    async def scenario() -> None:
        async with open_link(echo.url("/")) as link:
            sending = asyncio.create_task(link.send(os.urandom(17 * MIB)))
            assert (await link.closed())[0] == 1009
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionClosed, ConnectionError):
                await sending

    run(scenario())


def test_pings_are_answered_with_their_payload(open_link: Open, echo: Server) -> None:
    async def scenario() -> None:
        async with open_link(echo.url("/")) as link:
            for _ in range(20):
                await link.ping()

    run(scenario())


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_the_client_closes_cleanly(open_link: Open, echo: Server, code: int) -> None:
    async def scenario() -> None:
        async with open_link(echo.url("/")) as link:
            await link.close(code, "Ade, schöne Welt")
            assert (await link.closed())[0] == code

    run(scenario())


@pytest.mark.parametrize("deflate", ["deflate", None])
def test_fragments_are_put_together(echo: Server, deflate: str | None) -> None:
    pieces = ["Zür", "ich", "", ", ", "東京"] * 200

    async def scenario() -> None:
        async with websockets.asyncio.client.connect(
            echo.url("/"), compression=deflate, proxy=None
        ) as connection:
            await connection.send(pieces)
            assert await connection.recv() == "".join(pieces)

    run(scenario())


def test_the_threaded_client_of_websockets(fanout: Server, echo: Server) -> None:
    with websockets.sync.client.connect(echo.url("/"), max_size=None, proxy=None) as connection:
        for payload in ("text", b"binary" * MIB, "".join("fragments")):
            connection.send(payload)
            assert connection.recv(20) == payload
        assert connection.ping().wait(10)
    with websockets.sync.client.connect(
        fanout.url(), subprotocols=[websockets.Subprotocol("umbel.v1")], proxy=None
    ) as connection:
        assert received(connection.recv(10))["type"] == "connection_established"
        connection.send(sent(type="subscribe_updates", channel="threads"))
        start = received(connection.recv(10))
        connection.send(sent(type="publish", channel="threads", data=[1, "two", None]))
        answers = [received(connection.recv(10)) for _ in range(2)]
        assert follow(answers, "threads", start["offset"]) == [[1, "two", None]]


def test_http_is_answered_on_the_same_port(fanout: Server) -> None:
    assert http_status(fanout.address, "/healthz") == 200
    assert http_status(fanout.address, "/no/such/page") == 404


def test_stopping_the_server_closes_every_client_with_1012() -> None:
    """SIGTERM: ``reconnect`` first, then close 1012, then exit status 0."""

    async def scenario(server: Server) -> None:
        async with websockets_link(server.url()) as first, aiohttp_link(server.url()) as second:
            for link in (first, second):
                await message(link, "connection_established")
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            for link in (first, second):
                assert (await message(link, "reconnect"))["within"] >= 0
                assert (await link.closed())[0] == 1012
            assert await stopping == 0

    server = example("fanout")
    try:
        run(scenario(server.wait_ready()))
    finally:
        server.stop()

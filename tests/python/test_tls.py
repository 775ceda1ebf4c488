"""TLS, with a certificate that is for these tests alone."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import socket
import ssl

import pytest
from hostile import TEXT, Peer, frame
from looping import on_loops
from umbel import Request, Server, Umbel, WebSocket
from websockets.asyncio.client import connect
from wire import wire

HERE = pathlib.Path(__file__).parent / "tls"
FILES = {"tls_cert": str(HERE / "certificate.pem"), "tls_key": str(HERE / "key.pem")}


@pytest.fixture
def trust() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=FILES["tls_cert"])


@pytest.fixture
def secure() -> Umbel:
    app = Umbel(port=0, shards=1, max_message=8 << 20, send_buffer=4096, handshake_timeout=0.5, **FILES)
    app.channel("{name}", open=True, publish=True, history=10_000, history_bytes=64 << 20)

    @app.websocket("/echo")
    async def echo(socket: WebSocket) -> None:
        async for message in socket:
            await socket.send(message)

    return app


def address(server: Server) -> tuple[str, int]:
    host, port = server.url.removeprefix("https://").rsplit(":", 1)
    return host, int(port)


def all_of(plain: socket.socket) -> bytes:
    said = b""
    while more := plain.recv(4096):
        said += more
    return said


@on_loops
@pytest.mark.parametrize("size", [200, 10_000, 16_400, 100_000])
async def test_messages_of_any_size_may_follow_each_other(
    secure: Umbel, trust: ssl.SSLContext, size: int
) -> None:
    async with secure.serve() as server, wire(server, ssl=trust) as client:
        # A record of TLS is at most 16 KiB: some end within a message, some with another one.
        for number in range(60):
            await client.say("heartbeat", id=number, pad="x" * size)
        assert [(await client.hear("heartbeat_ack"))["id"] for _ in range(60)] == list(range(60))


@on_loops
async def test_a_subscriber_behind_tls_gets_what_is_published(secure: Umbel, trust: ssl.SSLContext) -> None:
    async with secure.serve() as server, wire(server, ssl=trust) as client:
        assert server.url.startswith("https://")
        await client.say("subscribe_updates", channel="news")
        await client.hear("subscription_established")
        for number in range(100):
            secure.publish("news", {"number": number, "text": "words " * 100})
        heard = [(await client.hear("update"))["data"]["number"] for _ in range(100)]
        assert heard == list(range(100))


@on_loops
async def test_large_messages_pass_both_ways_whole(secure: Umbel, trust: ssl.SSLContext) -> None:
    async with secure.serve() as server:
        url = server.url.replace("https", "wss") + "/echo"
        async with connect(url, ssl=trust, max_size=None, proxy=None) as client:
            for size in (0, 1, 16_383, 16_384, 16_385, 65_536, 4 << 20):
                await client.send(b"\xab" * size)
                assert await client.recv() == b"\xab" * size


async def test_a_paused_reader_misses_nothing_the_log_holds(secure: Umbel, trust: ssl.SSLContext) -> None:
    async with secure.serve() as server, wire(server, ssl=trust, max_queue=1, compression=None) as client:
        await client.say("subscribe_updates", channel="news")
        await client.hear("subscription_established")
        for number in range(2000):
            secure.publish("news", [number, "x" * 5000])
            if number % 100 == 0:
                await asyncio.sleep(0)
        offsets = [(await client.hear("update"))["offset"] for _ in range(2000)]
        assert offsets == list(range(1, 2001))
        assert server.stats().lost == 0


async def test_plain_text_and_silence_on_the_tls_port_end_and_harm_nobody(
    secure: Umbel, trust: ssl.SSLContext
) -> None:
    async with secure.serve() as server:

        def talk(words: bytes) -> bytes:
            with socket.create_connection(address(server), timeout=5) as plain:
                plain.sendall(words)
                return all_of(plain)

        answer = await asyncio.to_thread(talk, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP" not in answer
        assert await asyncio.to_thread(talk, b"") == b""
        async with wire(server, ssl=trust) as client:
            await client.say("heartbeat", id=1)
            assert (await client.hear("heartbeat_ack"))["id"] == 1


async def test_handshakes_that_stop_half_way_end_at_the_deadline_and_keep_nobody_waiting(
    secure: Umbel, trust: ssl.SSLContext
) -> None:
    async with secure.serve() as server:
        # The record says 512 bytes of ClientHello, of which 11 come.
        half = b"\x16\x03\x01\x02\x00" + b"\x01\x00\x01\xfc\x03\x03" + b"\x00" * 5
        stalled = [socket.create_connection(address(server), timeout=5) for _ in range(50)]
        for peer in stalled:
            peer.sendall(half)
        async with wire(server, ssl=trust) as client:
            await client.say("heartbeat", id=1)
            assert (await client.hear("heartbeat_ack"))["id"] == 1
        for peer in stalled:
            assert b"HTTP" not in await asyncio.to_thread(all_of, peer)
            peer.close()
        assert server.stats().connections == 0


@pytest.mark.parametrize("cap", ["max_connections", "max_connections_per_address"])
async def test_a_refused_connection_is_told_by_a_tls_alert_and_not_in_plain_text(
    trust: ssl.SSLContext, cap: str
) -> None:
    async with Umbel(port=0, **{cap: 1}, **FILES).serve() as server, wire(server, ssl=trust):
        plain = socket.create_connection(address(server), timeout=5)
        assert await asyncio.to_thread(all_of, plain) == b"\x15\x03\x03\x00\x02\x02\x50"
        plain.close()
        with pytest.raises(ssl.SSLError, match="internal error"):
            async with wire(server, ssl=trust):
                pass
        assert server.stats().refused == 2


async def test_a_handshake_without_end_is_not_held_until_the_deadline() -> None:
    async with Umbel(port=0, handshake_timeout=60.0, **FILES).serve() as server:
        # Two whole records of a ClientHello that says it has 65,535 bytes.
        record = b"\x16\x03\x01\x40\x00"
        hello = record + b"\x01\x00\xff\xff" + b"\x00" * 16380 + record + b"\x00" * 16384

        def talk() -> None:
            with Peer(address(server)) as peer:
                with contextlib.suppress(OSError):
                    peer.socket.sendall(hello)
                peer.expect_end(5)

        await asyncio.to_thread(talk)


@pytest.mark.parametrize("file", ["encrypted.pem", "encrypted-traditional.pem"])
async def test_a_key_with_a_passphrase_is_called_encrypted(file: str) -> None:
    with pytest.raises(ValueError, match=rf"the private key in \S+{file} is encrypted with a passphrase"):
        async with Umbel(port=0, **FILES | {"tls_key": str(HERE / file)}).serve():
            pass


async def test_a_key_file_without_a_key_is_named() -> None:
    with pytest.raises(ValueError, match=r"certificate\.pem holds no private key"):
        async with Umbel(port=0, **FILES | {"tls_key": FILES["tls_cert"]}).serve():
            pass


async def test_messages_sent_before_a_client_was_let_in_are_handled_in_order(
    secure: Umbel, trust: ssl.SSLContext
) -> None:
    asked, admitted = asyncio.Event(), asyncio.Event()

    @secure.authenticate
    async def who(request: Request) -> str:
        asked.set()
        await admitted.wait()
        return "ann"

    def message(number: int) -> bytes:
        return b'{"type": "heartbeat", "id": %d, "pad": "%s"}' % (number, b"x" * 10_000)

    async with secure.serve(handshake_timeout=10.0) as server:

        def talk() -> list[int]:
            with Peer(address(server)) as peer:
                peer.socket = trust.wrap_socket(peer.socket, server_hostname="127.0.0.1")
                early = b"".join(frame(TEXT, message(number)) for number in range(50))
                peer.upgrade("/ws", early=early)
                return [peer.read_json("heartbeat_ack")["id"] for _ in range(50)]

        talking = asyncio.create_task(asyncio.to_thread(talk))
        await asked.wait()
        admitted.set()
        assert await talking == list(range(50))


class Live:
    """A certificate and a key where programs that renew them put them: behind links that are replaced."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.settings = {"tls_cert": str(folder / "cert.pem"), "tls_key": str(folder / "key.pem")}
        self.use("certificate.pem", "key.pem")

    def use(self, *names: str) -> None:
        for link, name in zip(("cert.pem", "key.pem"), names, strict=True):
            (self.folder / "new").symlink_to(HERE / name)
            (self.folder / "new").replace(self.folder / link)


@pytest.fixture
def live(tmp_path: pathlib.Path) -> Live:
    return Live(tmp_path)


async def presented(server: Server) -> bytes:
    """The certificate that a new connection gets."""
    text = await asyncio.to_thread(ssl.get_server_certificate, address(server), timeout=10)
    return ssl.PEM_cert_to_DER_cert(text)


def der(name: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert((HERE / name).read_text())


async def until_logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    async with asyncio.timeout(15):
        while text not in caplog.text:
            await asyncio.sleep(0.02)


async def test_a_renewed_certificate_is_served_to_new_connections_and_old_ones_stay(
    live: Live, trust: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "umbel")
    async with Umbel(port=0, **live.settings).serve() as server, wire(server, ssl=trust) as client:
        assert await presented(server) == der("certificate.pem")
        live.use("renewed.pem", "renewed-key.pem")
        await until_logged(caplog, "the certificate was read again")
        assert await presented(server) == der("renewed.pem")
        await client.say("heartbeat", id=1)
        assert (await client.hear("heartbeat_ack"))["id"] == 1


@pytest.mark.parametrize(
    ("key", "says"),
    [("key.pem", "can't be used"), ("encrypted.pem", "encrypted"), ("none.pem", "can't read")],
)
async def test_a_certificate_that_can_not_be_used_does_not_replace_one_that_can(
    live: Live, caplog: pytest.LogCaptureFixture, key: str, says: str
) -> None:
    caplog.set_level("INFO", "umbel")
    async with Umbel(port=0, **live.settings).serve() as server:
        live.use("renewed.pem", key)
        await until_logged(caplog, "the certificate before is served")
        assert says in caplog.text
        assert await presented(server) == der("certificate.pem")
        live.use("renewed.pem", "renewed-key.pem")
        await until_logged(caplog, "the certificate was read again")
        assert await presented(server) == der("renewed.pem")
    assert caplog.text.count("the certificate before is served") == 1


async def test_the_application_can_ask_for_the_certificate_to_be_read_again(live: Live) -> None:
    async with Umbel(port=0, **live.settings).serve() as server:
        live.use("renewed.pem", "renewed-key.pem")
        assert server.reread_certificate()
        assert await presented(server) == der("renewed.pem")
    assert not server.reread_certificate()
    async with Umbel(port=0).serve() as plain:
        assert not plain.reread_certificate()

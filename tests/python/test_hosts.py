"""Which host names a page may connect by: DNS rebinding ends here."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from hostile import Peer, handshake
from umbel import Server, Umbel, WebSocket


@pytest.fixture
def app() -> Umbel:
    app = Umbel(port=0, shards=1)

    @app.websocket("/echo")
    async def echo(socket: WebSocket) -> None:
        async for message in socket:
            await socket.send(message)

    return app


def status(server: Server, host: str, origin: str | None, path: str = "/ws") -> int:
    """The answer to an upgrade."""
    lines = [f"Host: {host}", *([f"Origin: {origin}"] if origin else [])]
    name, _, port = server.url.removeprefix("http://").rpartition(":")
    with Peer((name.replace("0.0.0.0", "127.0.0.1"), int(port))) as peer:
        peer.send(handshake(path, add=lines))
        return peer.response().status


async def ask(server: Server, host: str, *, page: bool = True, path: str = "/ws") -> int:
    return await asyncio.to_thread(status, server, host, f"http://{host}" if page else None, path)


async def test_a_page_can_not_reach_a_local_server_by_a_name_of_its_own(
    app: Umbel, caplog: pytest.LogCaptureFixture
) -> None:
    async with app.serve() as server:
        port = server.url.rpartition(":")[2]
        for _ in range(3):
            assert await ask(server, f"evil.example:{port}") == 403
        assert await ask(server, f"evil.example:{port}", path="/echo") == 403
        assert await ask(server, "203.0.113.5") == 403
        assert await ask(server, f"evil.example:{port}", page=False) == 101, "programs are unaffected"
        for name in ("localhost", "app.localhost", "127.0.0.1", "[::1]"):
            assert await ask(server, f"{name}:{port}") == 101, name
        refused = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert len(refused) == 1
    assert f"for 'evil.example:{port}'" in refused[0].replace('"', "'")
    assert "setting allowed_hosts" in refused[0]


@pytest.mark.parametrize(
    ("settings", "host", "expected"),
    [
        ({"allowed_hosts": ["app.example"]}, "app.example", 101),
        ({"allowed_hosts": ["app.example"]}, "App.Example:8443", 101),
        ({"allowed_hosts": ["app.example"]}, "b.app.example", 403),
        ({"allowed_hosts": ["*.app.example"]}, "b.app.example", 101),
        ({"host": "0.0.0.0"}, "evil.example", 403),
        ({"host": "0.0.0.0"}, "203.0.113.5:8000", 101),
        ({"host": "0.0.0.0"}, "localhost:8000", 101),
        ({"host": "0.0.0.0", "allowed_hosts": ["app.example"]}, "app.example", 101),
        ({"origins": "*"}, "evil.example", 101),
        ({"origins": ["http://evil.example"]}, "evil.example", 101),
    ],
)
async def test_names_are_known_by_address_and_by_setting(
    app: Umbel, settings: Any, host: str, expected: int
) -> None:
    async with app.serve(**settings) as server:
        assert await ask(server, host) == expected


async def test_behind_a_unix_socket_the_proxy_knows_the_names(app: Umbel, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    def knock(host: str, origin: str) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(path)
            client.sendall(handshake(add=[f"Host: {host}", f"Origin: {origin}"]))
            return client.recv(4096).split()[1]

    async with app.serve(unix_socket=path):
        assert await asyncio.to_thread(knock, "app.example", "https://app.example") == b"101"
        assert await asyncio.to_thread(knock, "app.example", "https://evil.example") == b"403"

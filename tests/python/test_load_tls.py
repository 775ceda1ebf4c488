"""``umbel.load`` against servers with TLS."""

import socket
from pathlib import Path
from typing import Any

import pytest
from connecting import port_of
from test_load import application, loaded
from test_tls import FILES
from umbel.load import Load, LoadConfig, LoadError


@pytest.mark.parametrize("scenario", ["fanout", "sse", "chaos"])
async def test_everything_comes_over_tls(scenario: Any) -> None:
    async with application().serve(port=0, **FILES) as server:
        target = f"wss://localhost:{port_of(server)}/ws"
        found = await loaded(target, scenario=scenario, ca=FILES["tls_cert"], rate=10.0, data_bytes=20_000)
    assert (found.faults, found.success_rate) == ({}, 1.0)
    assert found.messages == found.published * 20 > 0


async def test_a_certificate_that_nobody_trusts_or_of_another_name_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with application().serve(port=0, **FILES) as server:
        target = f"wss://localhost:{port_of(server)}/ws"
        with pytest.raises(LoadError, match="invalid peer certificate"):
            await loaded(target, ca=str(Path(FILES["tls_cert"]).with_name("renewed.pem")))
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port_of(server)))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with pytest.raises(LoadError, match=r"invalid peer certificate: .*not valid for"):
            await loaded(target.replace("localhost", "other.example"), ca=FILES["tls_cert"])


async def test_a_server_without_tls_is_said() -> None:
    async with application().serve(port=0) as server:
        with pytest.raises(LoadError, match=r"corrupt message"):
            await loaded(f"wss://localhost:{port_of(server)}/ws", ca=FILES["tls_cert"])


@pytest.mark.parametrize(("file", "says"), [("key.pem", "no certificate"), ("none.pem", "No such file")])
def test_a_file_without_authorities_is_said(file: str, says: str) -> None:
    config = LoadConfig(target="wss://127.0.0.1:8000/ws", ca=str(Path(FILES["tls_cert"]).with_name(file)))
    with pytest.raises(ValueError, match=says):
        Load(config)

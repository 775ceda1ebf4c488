"""``umbel.load`` reads what the server counts itself."""

import socket
from pathlib import Path

import pytest
from connecting import port_of
from test_load import answering, application, loaded
from test_load_command import ended
from umbel.load import LoadConfig, LoadError

TOKEN = "a-token-of-at-least-32-characters-this-one"


async def test_the_server_accounts_for_everything_that_was_published(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    async with application().serve(port=0, admin="127.0.0.1:0", admin_token=TOKEN) as server:
        target, metrics = f"ws://127.0.0.1:{port_of(server)}/ws", f"{server.admin_url}/metrics"
        found = await loaded(target, metrics=metrics, metrics_token=TOKEN)
        again = await loaded(target, channels=2, metrics=metrics, metrics_token=TOKEN)
        words = (target, "--connections", "5", "--seconds", "0.2", "--warm-up", "0.1", "--metrics", metrics)
        shown = await ended(*words, "--metrics-token", str(file), "--require", "accounted==100%")
        with pytest.raises(LoadError, match=r"metrics at .* can't be read: .*401"):
            await loaded(target, metrics=metrics)
    for each in (found, again):
        assert each.accounted_rate == each.success_rate == 1.0
        assert each.server_counters["umbel_publications_total"] == each.published
        assert each.server_counters["umbel_updates_delivered_total"] == each.messages
    assert shown.returncode == 0, shown.stderr
    assert "100.0000% of due delivered or announced" in shown.stdout


async def test_pages_without_counters_and_pages_elsewhere_are_no_metrics() -> None:
    def elsewhere(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n")

    def empty(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nup\n")

    for answer, says in ((elsewhere, "302"), (empty, "no counters")):
        with answering(answer) as target, pytest.raises(LoadError, match=says):
            await loaded(target, metrics=target.replace("ws:", "http:"))
    with pytest.raises(ValueError, match="metrics are at"):
        LoadConfig(target="ws://127.0.0.1:8000/ws", metrics="file:///etc/hosts")

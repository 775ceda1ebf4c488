"""The listener for operators: what it says, to whom, and that nothing else delays it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import resource
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from looping import on_loops
from programs import started
from prometheus_client.parser import text_string_to_metric_families
from serving import ROOT, wait_until
from test_traces import live, masked, say, stream, until, upgrade
from umbel import ConfigurationError, Settings, Umbel
from umbel._serving.server import Server

pytestmark = pytest.mark.timeout(60)

Samples = dict[str, float]


def ask(
    url: str,
    path: str = "/metrics",
    method: str = "GET",
    headers: dict[str, str] | None = None,
    timeout: float = 10,
) -> tuple[int, http.client.HTTPMessage, str]:
    address = url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=timeout)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read().decode()


def address_of(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def samples(text: str) -> Samples:
    """The value of each sample, by its name and the values of its labels."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.type != "unknown", family.name
        assert family.documentation, family.name
        for name, labels, value, *_ in family.samples:
            key = " ".join([name, *labels.values()])
            assert key not in found
            found[key] = value
    return found


def scrape(server: Server, **options: Any) -> Samples:
    assert server.admin_url is not None
    status, headers, text = ask(server.admin_url, **options)
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return samples(text)


async def scraped(server: Server) -> Samples:
    return await asyncio.to_thread(scrape, server)


@on_loops
async def test_a_scrape_says_what_has_happened(app: Umbel) -> None:
    app.channel("news:{topic}", open=True)
    release = asyncio.Event()

    @app.on("wait")
    async def wait(client: Any, message: Any) -> None:
        await release.wait()
        await asyncio.sleep(0.2)

    async with app.serve(port=0, shards=2, admin="127.0.0.1:0") as server:
        await live(server)
        await say(server, upgrade("/nowhere"))
        async with stream(server) as (reader, writer):
            writer.write(upgrade().encode())
            await reader.readuntil(b"connection_established")
            for message in ({"type": "subscribe_updates", "channel": "news:a"}, {"type": "wait"}):
                writer.write(masked(message))
            await reader.readuntil(b"subscription_established")
            before = await scraped(server)
            while not before["umbel_python_functions_running"]:
                before = await scraped(server)
            release.set()
            for number in range(3):
                app.publish("news:a", {"number": number})
            await reader.readuntil(b'"number":2')
            await until(lambda: server.stats().delivered == 3)
            await asyncio.sleep(1.5)  # Python says once a second what has ended meanwhile
            after = await scraped(server)
            stats = server.stats()
    assert before["umbel_connections"] == 1
    assert before["umbel_connections_opened_total"] == 3
    assert before["umbel_connections_closed_total client"] == 1
    assert before["umbel_connections_closed_total response"] == 1
    assert before["umbel_connections_refused_total not_found"] == 1
    assert before["umbel_subscriptions"] == 1
    assert before["umbel_messages_received_total"] == 3
    assert after["umbel_publications_total"] - before["umbel_publications_total"] == 3
    assert after["umbel_updates_delivered_total"] == 3
    assert after["umbel_batches_total"] == stats.frames
    assert after["umbel_network_bytes_total sent"] == stats.bytes_sent
    assert after["umbel_network_bytes_total received"] > 3 * len(upgrade())
    assert 3 * len('{"number":1}') < after["umbel_payload_bytes_total sent"] < 1000
    assert 100 < after["umbel_payload_bytes_total received"] < 300
    assert after["umbel_logs"] == 1
    assert 3 * len('{"number":1}') < after["umbel_log_bytes"] < 10_000
    for name in ("overrun", "burst", "memory", "epoch"):
        assert after[f"umbel_gaps_total {name}"] == 0
    assert after["umbel_publications_lost_total"] == 0
    for name in ("tick_duration", "delivery_lateness"):
        assert 1 <= after[f"umbel_{name}_seconds_count"] <= 4
        assert after[f"umbel_{name}_seconds_bucket +Inf"] == after[f"umbel_{name}_seconds_count"]
        assert 0 < after[f"umbel_{name}_seconds_sum"] < 1
    assert "umbel_tick_lag_seconds_bucket 0.016384" in after
    assert before["umbel_python_functions_running"] == 1
    assert after["umbel_python_functions_running"] == 0
    assert after["umbel_python_functions_total"] == 1
    assert 0.2 <= after["umbel_python_function_seconds_total"] < 5
    assert 0 < after["umbel_python_busy_seconds_total"] < 1
    assert after["umbel_python_queue_events"] == 0
    assert after["umbel_build_info 0.1.0"] == 1
    assert not any("news" in key for key in after)


@on_loops
async def test_the_page_lists_the_metrics(app: Umbel) -> None:
    async with app.serve(port=0, shards=1, admin="127.0.0.1:0") as server:
        assert server.admin_url is not None
        _, _, text = await asyncio.to_thread(ask, server.admin_url)
    rows = []
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = sorted({name for sample in family.samples for name in sample.labels} - {"le"})
        names = ", ".join(f"`{label}`" for label in labels)
        rows.append(f"| `{name}` | {family.type} | {names} | {family.documentation} |")
    page = (ROOT / "docs" / "operating.md").read_text().splitlines()
    prefixes = ("| `umbel_", "| `process_") if sys.platform == "linux" else ("| `umbel_",)
    assert [line for line in page if line.startswith(prefixes)] == rows


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says it in files")
@on_loops
async def test_what_the_system_says_of_the_process(app: Umbel) -> None:
    before = time.process_time()
    async with app.serve(port=0, shards=1, admin="127.0.0.1:0") as server:
        values = await scraped(server)
        with contextlib.ExitStack() as files:
            for _ in range(200):
                files.enter_context(open(__file__))
            more = await scraped(server)
    tick = 0.05  # the kernel counts processor time in hundredths of a second
    assert before - tick <= values["process_cpu_seconds_total"] <= time.process_time() + tick
    assert 1 << 20 < values["process_resident_memory_bytes"] < values["process_virtual_memory_bytes"]
    # What other tests have left may be closed meanwhile.
    assert more["process_open_fds"] >= values["process_open_fds"] + 100
    assert values["process_open_fds"] < values["process_max_fds"]
    assert values["process_max_fds"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert values["process_start_time_seconds"] == more["process_start_time_seconds"] > 1.6e9


@on_loops
async def test_every_value_of_a_label_is_there_from_the_start(app: Umbel) -> None:
    async with app.serve(port=0, shards=1, admin="127.0.0.1:0") as server:
        values = await scraped(server)
        stats = server.stats()
    families = {
        "umbel_connections_closed_total": set(stats.closed_by),
        "umbel_connections_refused_total": set(stats.refused_by),
        "umbel_gaps_total": {"overrun", "burst", "memory", "epoch"},
        "umbel_payload_bytes_total": {"received", "sent"},
        "umbel_network_bytes_total": {"received", "sent"},
    }
    assert len(stats.closed_by) > 20
    for name, labels in families.items():
        assert {
            key.partition(" ")[2]: values[key] for key in values if key.startswith(f"{name} ")
        } == dict.fromkeys(labels, 0)


@on_loops
async def test_a_scrape_is_answered_while_python_is_blocked(app: Umbel) -> None:
    blocked, found = threading.Event(), []

    @app.on("block")
    def block(client: Any, message: Any) -> None:
        blocked.set()
        time.sleep(1.5)

    def watch(server: Server) -> None:
        assert blocked.wait(10)
        with socket.create_connection(address_of(server.url)) as other:
            other.sendall(upgrade().encode())
            while b"connection_established" not in other.recv(4096):
                pass
            other.sendall(masked({"type": "block"}))
            time.sleep(0.5)
            began = time.monotonic()
            found.append(scrape(server))
            assert time.monotonic() - began < 0.5

    async with app.serve(port=0, shards=1, admin="127.0.0.1:0") as server:
        task = asyncio.create_task(asyncio.to_thread(watch, server))
        async with stream(server) as (reader, writer):
            writer.write(upgrade().encode())
            await reader.readuntil(b"connection_established")
            writer.write(masked({"type": "block"}))
            await task
    (during,) = found
    assert during["umbel_python_queue_events"] >= 1
    assert 0.3 < during["umbel_python_queue_age_seconds"] < 2


def test_who_may_ask_and_for_what(serving: Any, caplog: pytest.LogCaptureFixture) -> None:
    server = serving(admin="127.0.0.1:0", allowed_hosts=["*.example.org."])
    url = server.admin_url
    port = url.rpartition(":")[2]
    for host in (f"localhost:{port}", "127.0.0.1", f"[::1]:{port}", "metrics.example.org"):
        assert ask(url, headers={"Host": host})[0] == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example"):
        assert ask(url, headers={"Host": host})[0] == 403
    assert ask(url, "/")[0] == 404
    assert ask(url, "/healthz")[0] == 404
    status, headers, _ = ask(url, method="POST")
    assert (status, headers["allow"]) == (405, "GET, HEAD")
    status, headers, text = ask(url, method="HEAD")
    assert (status, text) == (200, "")
    assert int(headers["content-length"]) > 1000
    assert ask(server.url)[0] == 404, "the other listener has none"
    wait_until(lambda: "admin requests refused" in caplog.text, "the refusal is logged")
    assert caplog.text.count("admin requests refused") == 1
    assert "(setting allowed_hosts)" in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_token_guards_everything(serving: Any, host: str, caplog: pytest.LogCaptureFixture) -> None:
    server = serving(admin=f"{host}:0", admin_token="a-long-token")
    url = server.admin_url.replace("0.0.0.0", "127.0.0.1")
    for value in (
        None,
        "Bearer",
        "Bearer a-long-toke",
        "Bearer a-long-token2",
        "Basic a-long-token",
        "a-long-token",
    ):
        for path in ("/metrics", "/other"):
            status, headers, _ = ask(url, path, headers={"Authorization": value} if value else {})
            assert (status, headers["www-authenticate"]) == (401, "Bearer")
    for value in ("Bearer a-long-token", "bearer  a-long-token"):
        assert ask(url, headers={"Authorization": value})[0] == 200
    wait_until(lambda: "(setting admin_token)" in caplog.text, "the refusal is logged")
    assert "a-long-token" not in caplog.text
    assert "a-long-token" not in repr(server.settings)


@pytest.mark.parametrize("admin", ["0.0.0.0:8001", "[::]:8001", "192.0.2.1:8001", "metrics.example:8001"])
def test_an_address_of_a_network_needs_a_token(admin: str) -> None:
    with pytest.raises(ConfigurationError, match="admin_token"):
        Settings(admin=admin)
    Settings(admin=admin, admin_token="x")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"admin": "8001"}, "admin must be"),
        ({"admin": ":8001"}, "admin must be"),
        ({"admin": "127.0.0.1"}, "admin must be"),
        ({"admin": "127.0.0.1:70000"}, "admin must be"),
        ({"admin": "::1:8001"}, "admin must be"),
        ({"admin": "http://127.0.0.1:8001"}, "admin must be"),
        ({"admin": "127.0.0.1:8001", "admin_token": ""}, "admin_token must be"),
        ({"admin": "127.0.0.1:8001", "admin_token": "two words"}, "admin_token must be"),
        ({"admin_token": "x"}, "admin_token must be"),
    ],
)
def test_what_can_not_work_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Settings(**settings)


def test_scrapers_that_hang_stop_no_others_and_are_dropped(serving: Any) -> None:
    server = serving(admin="127.0.0.1:0")
    address = address_of(server.admin_url)
    with contextlib.ExitStack() as stack:
        hanging = [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(40)]
        for number, each in enumerate(hanging):
            each.sendall(b"GET /metrics HTTP/1.1\r\n" if number % 2 else b"")
        began = time.monotonic()
        assert ask(server.admin_url, timeout=2)[0] == 200
        assert all(ended(each) for each in hanging[:8]), "of more than 32 the oldest had to go"
        assert time.monotonic() - began < 4
        assert all(ended(each) for each in hanging), "after five seconds the others, too"


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(4096) == b""
    except ConnectionError:
        return True


def test_many_who_ask_at_once_are_all_answered(tmp_path: Path) -> None:
    (tmp_path / "feed.py").write_text("from umbel import Umbel\napp = Umbel()\n")
    arguments = ("-m", "umbel", "run", "feed:app", "--port", "0", "--admin", "127.0.0.1:0")
    with started(*arguments, cwd=tmp_path) as program, contextlib.ExitStack() as stack:
        address = address_of(program.wait_line("metrics at ").split()[-1].removesuffix("/metrics"))
        # More of them than places, all of which wait when the server gets the processor again.
        program.process.send_signal(signal.SIGSTOP)
        asking = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(80)]
        for each in asking:
            each.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        program.process.send_signal(signal.SIGCONT)
        assert [each.recv(12) for each in asking] == [b"HTTP/1.1 200"] * 80


@on_loops
async def test_the_listener_ends_with_the_server_and_its_port_is_free(app: Umbel) -> None:
    async with app.serve(port=0, shards=1, admin="127.0.0.1:0") as server:
        url = server.admin_url
        assert url is not None
        assert (await scraped(server))["umbel_connections"] == 0
    with pytest.raises(ConnectionRefusedError):
        await asyncio.to_thread(ask, url)
    async with app.serve(port=0, shards=1, admin=url.removeprefix("http://")) as server:
        await scraped(server)


def threads_of_cores() -> set[str]:
    """Threads of this process that are not Python's."""
    python = {str(thread.native_id) for thread in threading.enumerate()}
    names = Path("/proc/self/task").glob("*/comm")
    return {it.parent.name for it in names if it.read_text().startswith("umbel")} - python


@on_loops
async def test_a_port_in_use_is_an_error_that_leaves_nothing_open(app: Umbel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        admin = f"127.0.0.1:{taken.getsockname()[1]}"
        before = threads_of_cores()
        with pytest.raises(OSError, match=f"can't listen on {admin}"):
            async with app.serve(port=port, admin=admin):
                pass
        with socket.create_server(("127.0.0.1", port)):
            pass
        assert threads_of_cores() <= before


def test_the_command_has_the_option_and_names_a_port_in_use(tmp_path: Path) -> None:
    (tmp_path / "feed.py").write_text("from umbel import Umbel\napp = Umbel()\n")
    arguments = ("-m", "umbel", "run", "feed:app", "--port", "0", "--admin")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with started(*arguments, f"127.0.0.1:{port}", cwd=tmp_path) as program:
            assert program.end() == 1
    assert f"port {port} is taken by" in program.output
    assert "--admin" in program.output
    with started(*arguments, f"127.0.0.1:{port}", "--port", str(port), cwd=tmp_path) as program:
        assert program.end() == 1
    assert f"--port and --admin are both {port}" in program.output
    with started(*arguments, "127.0.0.1:0", cwd=tmp_path) as program:
        url = program.wait_line("metrics at ").split()[-1].removesuffix("/metrics")
        assert samples(ask(url)[2])["umbel_connections"] == 0
        assert program.stop() == 0

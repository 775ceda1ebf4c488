"""A real Prometheus reads a server under load: every alert rule and every panel has a value there.

It needs `prometheus` and `promtool`, and is skipped where they are not installed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest
from expressions import ALERTS, OPS, PANELS, RULES, RULES_FILE, always, each_value, narrowed
from hostile import Peer
from serving import Server, wait_until

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        not (shutil.which("prometheus") and shutil.which("promtool")),
        reason="prometheus and promtool are not installed",
    ),
]

APP = """
import asyncio
from umbel import Umbel

app = Umbel(port=0, shards=1, admin="127.0.0.1:0")
app.channel("news:{topic}", open=True)

@app.on("work")
async def work(client, message):
    await asyncio.sleep(0.001)

@app.background
async def news():
    for number in range(1_000_000):
        app.publish("news:a", {"number": number})
        await asyncio.sleep(0.02)
"""

CONFIGURATION = """
global: {{scrape_interval: 500ms, scrape_timeout: 400ms, evaluation_interval: 500ms}}
rule_files: [umbel.rules.yml]
scrape_configs:
  - job_name: umbel
    static_configs: [{{targets: ["{target}"]}}]
"""

WINDOW: Final = "15s"
"""Of rates. It holds many scrapes, also on a machine that is busy with other things."""


class Prometheus:
    """A Prometheus on a port of its own. It keeps what it has read in a folder that is thrown away."""

    def __init__(self, folder: Path, target: str) -> None:
        (folder / "prometheus.yml").write_text(CONFIGURATION.format(target=target))
        shutil.copy(RULES_FILE, folder)
        self.log = folder / "log"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log,
                stderr=log,
                cwd=folder,
            )

    def wait_ready(self) -> bool:
        """Wait until it answers. ``False`` when it has ended: another program took the port, perhaps."""

        def settled() -> bool:
            return self.process.poll() is not None or self.is_ready()

        wait_until(settled, "Prometheus is ready", 30)
        return self.process.poll() is None

    def is_ready(self) -> bool:
        try:
            return self.ask("/-/ready")[0] == 200
        except OSError:
            return False

    def ask(self, path: str, **parameters: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", f"{path}?{urlencode(parameters)}")
            response = connection.getresponse()
            return response.status, response.read().decode()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now."""
        status, text = self.ask("/api/v1/query", query=expression)
        assert status == 200, f"{expression}: {text}"
        result: list[dict[str, Any]] = json.loads(text)["data"]["result"]
        return result

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def clients(address: tuple[str, int]) -> Iterator[None]:
    """Clients that subscribe, work, and go; and requests that are refused."""
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.wait(0.05):
            with Peer(address) as peer:
                peer.upgrade()
                peer.read_json("connection_established")
                peer.send_json({"type": "subscribe_updates", "channel": "news:a"})
                peer.read_json("batched_updates")
                peer.send_json({"type": "work", "id": 1})
                peer.read_json("work_result")
            with socket.create_connection(address, timeout=10) as stranger:
                stranger.sendall(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert stranger.recv(4096).startswith(b"HTTP/1.1 404")

    failed: list[BaseException] = []

    def work() -> None:
        try:
            come_and_go()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert not failed, failed


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, when it has read a server under load for some seconds."""
    place = tmp_path_factory.mktemp("ops")
    (place / "feed.py").write_text(APP)
    server = Server(
        sys.executable, "-m", "umbel", "run", "feed:app", environment={"PYTHONPATH": python_path(place)}
    )
    with server:
        target = server.wait_line(r"metrics at http://(\S+)/metrics")[1]
        server.wait_ready()
        with contextlib.ExitStack() as stack:
            for attempt in range(3):
                it = Prometheus(place, target)
                stack.callback(it.end)
                if it.wait_ready():
                    break
                assert attempt < 2, it.log.read_text()
            stack.enter_context(clients(server.address))
            enough = (
                f"count_over_time(up[{WINDOW}]) >= 6 and rate(umbel_python_functions_total[{WINDOW}]) > 0"
            )
            wait_until(lambda: it.query(enough), "Prometheus has read the server some times", 60)
            yield it


def python_path(place: Path) -> str:
    return f"{OPS.parent / 'python'}:{place}"


@pytest.mark.parametrize(("where", "expression"), ALERTS)
def test_the_expression_of_an_alert_can_be_evaluated(
    prometheus: Prometheus, where: str, expression: str
) -> None:
    assert prometheus.query(always(narrowed(expression, WINDOW)))
    for each in each_value(expression):
        assert prometheus.query(each), each


@pytest.mark.parametrize(("where", "expression"), PANELS)
def test_a_panel_has_something_to_show(prometheus: Prometheus, where: str, expression: str) -> None:
    text = narrowed(expression, WINDOW)
    if where == "Restarts":
        text = always(text)
    series = prometheus.query(text)
    assert series, text
    for each in each_value(expression):
        assert prometheus.query(each), each
    if "quantile" in text:
        assert all(one["value"][1] != "NaN" for one in series), text


def test_prometheus_evaluates_the_rules_and_the_server_is_well(prometheus: Prometheus) -> None:
    def found() -> list[dict[str, Any]]:
        text = prometheus.ask("/api/v1/rules")[1]
        groups = json.loads(text)["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] == "ok" for rule in found()), "every rule was evaluated", 20)
    assert [rule["name"] for rule in found()] == [rule["alert"] for rule in RULES]
    assert {rule["state"] for rule in found()} <= {"inactive", "pending"}


def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    assert promtool("check", "rules", str(RULES_FILE)) == 0


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    assert promtool("test", "rules", str(OPS / "prometheus" / "umbel.rules.test.yml")) == 0


def promtool(*arguments: str) -> int:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=100, check=False)
    print(done.stdout, done.stderr)
    return done.returncode

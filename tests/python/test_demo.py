"""The demo: what it measures, its crowd, its answers, its slow reader, and the whole of it."""

from __future__ import annotations

import asyncio
import http.server
import io
import itertools
import json
import re
import subprocess
import sys
import threading
import urllib.request
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import serving
from hostile import Peer, handshake
from umbel.demo import ai, load, load_process, server, sources
from websockets.asyncio.client import ClientConnection, connect

PROC = Path("/proc")
STAT = "cpu  9 9 9 9\ncpu0 100 0 50 800 50 0 0 0 0 0\ncpu1 10 0 0 90 0 0 0 0\ncpu10 1 0 0 9 0 0 0 0\nintr 5\n"
MEMINFO = "MemTotal: 1000 kB\nMemFree: 200 kB\nMemAvailable: 600 kB\nHugePages_Total: 3\n"
NET = (
    "Inter-| Receive | Transmit\n face |bytes packets\n"
    "    lo: 70 1 0 0 0 0 0 0 70 1 0 0 0 0 0 0\n"
    "  eth0:1000 1 0 0 0 0 0 0 500 1 0 0 0 0 0 0\n"
    "  eth0:1: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n"
    " dummy0: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)
DISKS = (
    "   7 0 loop0 1 0 8 0 0 0 8 0 0 0 0\n"
    " 254 0 vda 10 0 16 0 5 0 32 0 0 0 0\n"
    " 254 1 vda1 10 0 16 0 5 0 32 0 0 0 0\n"
    " 259 0 nvme0n1 10 0 2 0 5 0 4 0 0 0 0\n"
    " 259 1 nvme0n1p2 10 0 2 0 5 0 4 0 0 0 0\n"
)


class TestSources:
    def test_time_of_cores_is_busy_unless_idle_or_waiting_for_disks(self) -> None:
        assert sources.parse_stat(STAT) == {"cpu0": (150, 1000), "cpu1": (10, 100), "cpu10": (1, 10)}

    def test_memory_is_in_bytes_and_plain_numbers_stay(self) -> None:
        memory = sources.parse_meminfo(MEMINFO)
        assert memory["MemTotal"] == 1_024_000
        assert memory["HugePages_Total"] == 3

    def test_an_interface_may_have_a_colon_in_its_name(self) -> None:
        found = sources.parse_net_dev(NET)
        assert found == {"lo": (70, 70), "eth0": (1000, 500), "eth0:1": (9, 9), "dummy0": (0, 0)}

    def test_interfaces_that_never_moved_are_left_out(self) -> None:
        assert list(sources.busiest(sources.parse_net_dev(NET))) == ["eth0", "lo", "eth0:1"]
        assert sources.busiest({"dummy0": (0, 0)}) == {"dummy0": (0, 0)}

    def test_parts_of_disks_are_no_disks(self) -> None:
        assert sources.parse_diskstats(DISKS) == {"vda": (8192, 16384), "nvme0n1": (1024, 2048)}

    def test_a_rate_is_taken_over_the_window(self) -> None:
        rates = sources.Rates()
        found = [rates.changes(step / 10, {"x": (step * 10.0,)}) for step in range(30)]
        assert found[0] == {}
        assert all(change == {"x": (pytest.approx(100),)} for change in found[1:])
        assert len(rates._samples) <= sources.WINDOW * 10 + 2

    def test_a_counter_that_fell_counts_from_zero(self) -> None:
        rates = sources.Rates()
        rates.changes(0, {"x": (1000.0,)})
        assert rates.changes(1, {"x": (5.0,)}) == {"x": (5.0,)}

    def test_a_device_that_appears_later_has_no_rate_yet(self) -> None:
        rates = sources.Rates()
        rates.changes(0, {})
        assert rates.changes(1, {"new": (5.0,)}) == {}

    def test_synthetic_files_become_readings(self, tmp_path: Path) -> None:
        write_proc(tmp_path)
        measured = {source.channel: source for source in sources.sources()}
        for source in measured.values():
            source.sample(tmp_path, 0.0)
        (tmp_path / "stat").write_text(STAT.replace("cpu0 100 0 50 800", "cpu0 125 0 75 850"))
        (tmp_path / "net/dev").write_text(NET.replace("eth0:1000", "eth0:3000"))
        (cpu, *_) = measured["host:cpu"].sample(tmp_path, 2.0)
        assert (cpu.key, cpu.data) == ("cpu0", {"core": 0, "busy": 0.5})
        (memory,) = measured["host:memory"].sample(tmp_path, 2.0)
        assert memory.data == {"total": 1_024_000, "used": 409_600, "cached": 409_600, "swap": 0}
        (network, *_) = measured["host:network"].sample(tmp_path, 2.0)
        assert network.data == {"interface": "eth0", "received": 1000, "sent": 0}
        (disk,) = measured["host:disk"].sample(tmp_path, 2.0)
        assert disk.data == {"disks": {"vda": [0, 0], "nvme0n1": [0, 0]}}

    @pytest.mark.parametrize("source", sources.sources(), ids=lambda source: source.channel)
    def test_an_absent_or_strange_file_gives_nothing_and_says_why(
        self, source: sources.Source, tmp_path: Path
    ) -> None:
        assert source.sample(tmp_path, 0.0) == []
        assert "No such file" in str(source.missing(tmp_path))
        (tmp_path / source.file).parent.mkdir(exist_ok=True)
        (tmp_path / source.file).write_text("one\ntwo\nthree four: five\n")
        assert source.sample(tmp_path, 0.0) == []
        assert source.missing(tmp_path) is None

    @pytest.mark.skipif(not (PROC / "stat").exists(), reason="no /proc on this system")
    @pytest.mark.parametrize("source", sources.sources(), ids=lambda source: source.channel)
    def test_this_machine_can_be_measured(self, source: sources.Source) -> None:
        source.sample(PROC, 0.0)
        readings = source.sample(PROC, 1.0)
        assert json.loads(json.dumps([reading.data for reading in readings])) is not None
        assert all((reading.key is None) == (source.mode == "all") for reading in readings)
        if source.channel in ("host:memory", "host:network"):
            assert readings


class TestCrowd:
    def test_batches_are_counted_by_their_last_words(self) -> None:
        chunk = frame(batch(3)) + frame(batch(12))
        found = load_process.examine(chunk)
        assert (found.frames, found.messages, found.taken) == (2, 15, len(chunk))

    def test_a_count_in_the_data_of_an_update_does_not_mislead(self) -> None:
        text = batch(2).replace(b'"data":0', b'"data":"],\\"count\\":77"')
        assert load_process.examine(frame(text)).messages == 2

    def test_compressed_frames_are_read(self) -> None:
        assert load_process.examine(frame(batch(40), deflate=True)).messages == 40

    def test_gaps_add_up(self) -> None:
        text = json.dumps(
            {"type": "gap", "channel": "c", "epoch": "e", "from": 5, "to": 12, "reason": "r"},
            separators=(",", ":"),
        ).encode()
        found = load_process.examine(frame(text) + frame(text))
        assert (found.gaps, found.lost, found.frames) == (2, 14, 0)

    def test_a_frame_that_is_not_complete_waits(self) -> None:
        chunk = frame(batch(1))
        for cut in range(len(chunk)):
            found = load_process.examine(chunk + chunk[:cut])
            assert (found.messages, found.taken) == (1, len(chunk))

    def test_pings_and_the_close_are_seen(self) -> None:
        found = load_process.examine(bytes([0x89, 2]) + b"hi" + bytes([0x88, 2, 3, 232]))
        assert found.pings == (b"hi",)
        assert found.closed

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
    def test_frames_are_masked_as_clients_must(self, size: int) -> None:
        payload = bytes(index * 7 & 0xFF for index in range(size))
        found = load_process.masked(0x81, payload)
        body = found[len(found) - size :]
        mask = found[len(found) - size - 4 : len(found) - size]
        assert found[1] & 0x80
        assert bytes(byte ^ mask[index % 4] for index, byte in enumerate(body)) == payload

    def test_the_limit_is_whole_thousands_that_fit(self) -> None:
        assert load.affordable(1024, 20_000) == 0
        assert load.affordable(4096, 20_000) == 3000
        assert load.affordable(1 << 20, 20_000) == load.MOST
        assert load.affordable(1 << 20, 2500) == 2000

    async def test_a_crowd_counts_what_it_gets_and_ends_with_its_input(self) -> None:
        async with running() as demo:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-m", "umbel.demo.load_process", "--count", "25"),
                *("--url", demo.server.url, "--channels", "demo:load", "host:memory"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert process.stdout is not None
            assert process.stdin is not None
            report: dict[str, Any] = {}
            while report.get("connected") != 25 or report["messages"] < 1000:
                report = json.loads(await process.stdout.readline())
            assert report["frames"] <= report["messages"]
            assert report["failed"] == 0
            assert demo.server.stats().connections == 25
            process.stdin.close()
            assert await process.wait() == 0

    async def test_a_crowd_without_a_server_says_so_and_ends(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "umbel.demo.load_process", "--count", "2", "--url", "http://127.0.0.1:1"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        # Not communicate(): since Python 3.12 it closes the standard input, and then the process ends with 0.
        out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
        assert await process.wait() == 1
        assert json.loads(out)["failed"] == 2
        assert b"refused" in err


class TestAnswers:
    async def test_built_in_text_says_first_that_it_is_no_model(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ai, "WORD", 0)
        text = "".join([piece async for piece in ai.built_in("What is a cursor?")])
        assert text.startswith("This is built-in text, not a model")
        assert "epoch" in text

    @pytest.mark.parametrize("prompt", ["", "???", "weather in Bern", "tell me about gaps and batches"])
    def test_every_question_has_an_answer(self, prompt: str) -> None:
        assert len(ai.explain(prompt)) > 200

    def test_no_endpoint_without_an_address(self) -> None:
        assert ai.Endpoint.from_environment({"OPENAI_API_KEY": "secret"}) is None

    def test_an_address_that_is_none_is_refused(self) -> None:
        with pytest.raises(ValueError, match="OPENAI_BASE_URL"):
            ai.Endpoint.from_environment({"OPENAI_BASE_URL": "localhost:11434"})

    def test_pieces_are_read_from_a_stream_of_events(self) -> None:
        lines = [
            b": comment\n",
            b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n',
            b"\n",
            b'data:{"choices":[{"delta":{"content":"Hel"}}]}\r\n',
            b'data: {"choices":[{"delta":{"content":"lo"}}]}\n',
            b'data: {"choices":[],"usage":{}}\n',
            b"data: [DONE]\n",
            b'data: {"choices":[{"delta":{"content":"never"}}]}\n',
        ]
        assert list(ai.deltas(lines)) == ["Hel", "lo"]

    def test_an_error_in_the_stream_is_an_error(self) -> None:
        with pytest.raises(ai.EndpointError, match="overloaded"):
            list(ai.deltas([b'data: {"error":{"message":"overloaded"}}\n']))

    async def test_an_endpoint_streams(self, endpoint: Endpoint) -> None:
        stream = ai.Stream(ai.Endpoint(endpoint.url, "tiny", "key"), "Hi")
        assert "".join([piece async for piece in stream.pieces()]) == "Hello Hi"
        assert endpoint.seen["authorization"] == "Bearer key"
        assert endpoint.seen["model"] == "tiny"

    async def test_an_endpoint_that_refuses_is_quoted(self, endpoint: Endpoint) -> None:
        stream = ai.Stream(ai.Endpoint(endpoint.url, "unknown", ""), "Hi")
        with pytest.raises(ai.EndpointError, match=r"404.*no such model"):
            [piece async for piece in stream.pieces()]

    async def test_an_endpoint_that_is_not_there_is_named(self) -> None:
        stream = ai.Stream(ai.Endpoint("http://127.0.0.1:1/v1", "tiny", ""), "Hi")
        with pytest.raises(ai.EndpointError, match="refused"):
            [piece async for piece in stream.pieces()]


class TestDemo:
    async def test_every_feed_arrives_in_order(self) -> None:
        async with running() as demo, client(demo) as page:
            channels = [source.channel for source in demo.sources] + ["demo:load", "demo:stats"]
            await page.subscribe(*channels)
            received = await page.until(
                lambda updates: {update["channel"] for update in updates} >= expected()
            )
            assert all(abs(server.millis() - update["data"]["at"]) < 60_000 for update in received)
            assert page.violations == 0

    async def test_the_page_asks_its_own_server_alone(self) -> None:
        async with running() as demo:
            text = await asyncio.to_thread(fetch, demo.server.url + "/")
            assert "<title>Umbel" in text
            for name in NAMES:
                assert f'data-testid="{name}"' in text
            waiting, files = [text], set()
            while waiting:
                text = waiting.pop().replace("http://www.w3.org/2000/svg", "")
                assert not [word for word in ("@import", "url(", "http://", "https://") if word in text]
                for name in re.findall(r'(?:src="|stylesheet" href="|from "\.)/(?!umbel/)([^"]+)"', text):
                    if name not in files:
                        files.add(name)
                        waiting.append(await asyncio.to_thread(fetch, f"{demo.server.url}/{name}"))
        assert files == {file.name for file in server.WEB.iterdir()} - {"index.html"}

    async def test_the_rate_is_set_and_bounded(self) -> None:
        async with running() as demo, client(demo) as page:
            assert await page.ask("set_rate", 200) == 200
            assert await page.ask("set_rate", 10**9) == server.HIGHEST_RATE
            assert await page.ask("set_rate", 0) == server.LOWEST_RATE
            assert demo.rate == server.LOWEST_RATE

    async def test_the_page_is_told_what_is_missing(self, tmp_path: Path) -> None:
        async with running(proc=tmp_path) as demo, client(demo) as page:
            info = await page.ask("demo_info")
            assert set(info["missing"]) == set(info["sources"])
            assert info["ai"] is None

    async def test_a_crowd_joins_up_to_the_limit_and_leaves(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(load, "SIZE", 30)
        async with running() as demo, client(demo) as page:
            demo.load.limit = 60  # type: ignore[misc]
            assert (await page.ask("add_subscribers"))["added"] is True
            assert (await page.ask("add_subscribers"))["wanted"] == 60
            refused = await page.ask("add_subscribers")
            assert refused["added"] is False
            assert "is the most" in refused["reason"]
            await page.subscribe("demo:stats")
            received = await page.until(lambda updates: any(crowd_of(update) == 60 for update in updates))
            assert received[-1]["data"]["gauges"]["connections"] >= 60
            assert (await page.ask("remove_subscribers"))["wanted"] == 0
            await page.until(lambda updates: updates[-1]["data"]["gauges"]["connections"] == 1)

    async def test_a_slow_page_makes_the_server_wait_and_is_told_what_it_missed(self) -> None:
        async with running(rate=2000.0, send_buffer=server.SEND_BUFFER) as demo:
            async with client(demo, "/slow") as page:
                await page.subscribe("demo:load", "host:cpu", "host:network", "demo:stats")
                while demo.server.stats().blocked == 0:
                    await page.step()
                while not (page.gaps and page.folded):
                    await page.step()
                assert page.violations == 0
            # A reader that leaves is forgotten.
            while demo.server.stats().connections:
                await asyncio.sleep(0.02)

    async def test_an_answer_streams_into_its_own_channel(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ai, "WORD", 0.002)
        async with running() as demo, client(demo) as page:
            await page.say(
                type="ai_chat_request", id="a", data={"prompt": "slow readers", "conversationId": "c"}
            )
            received = await page.until(
                lambda updates: bool(updates) and updates[-1]["data"]["type"] == "ai_response_end"
            )
            text = "".join(update["data"].get("chunk", "") for update in received)
            assert received[-1]["data"]["status"] == "complete"
            assert "skipped" in text

    async def test_an_endpoint_that_fails_is_told_in_the_answer(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
        async with running() as demo, client(demo) as page:
            await page.say(type="ai_chat_request", data={"prompt": "Hi"})
            received = await page.until(
                lambda updates: bool(updates) and updates[-1]["data"]["type"] == "ai_response_end"
            )
            assert "No answer from http://127.0.0.1:1/v1" in received[-2]["data"]["chunk"]

    async def test_the_pace_follows_the_rate(self) -> None:
        rate = 500.0
        started = asyncio.get_running_loop().time()
        count = 0
        async for now in server.pace(lambda: rate):
            count += 1
            if now - started > 0.5:
                break
        assert 200 <= count <= 300

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--port", "x"], "invalid int"),
            (["--host", "192.0.2.1"], "not an address of this machine"),
            (["--allowed-hosts", "demo.example:80"], "write 'demo.example'"),
        ],
    )
    def test_a_wrong_command_is_explained(self, arguments: list[str], says: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "umbel", "demo", "--port", "0", *arguments], capture_output=True, text=True
        )
        assert done.returncode in (1, 2)
        assert says in done.stderr

    @pytest.mark.parametrize(("host", "status"), [("demo.example", 101), ("evil.example", 403)])
    def test_browsers_on_other_machines_may_reach_it_by_a_name(self, host: str, status: int) -> None:
        command = ("-m", "umbel", "demo", "--port", "0", "--allowed-hosts", "demo.example")
        with serving.running(serving.Server(sys.executable, *command)) as demo, Peer(demo.address) as peer:
            peer.send(handshake(add=[f"Host: {host}", f"Origin: http://{host}"]))
            assert peer.response().status == status

    def test_a_welcome_that_nobody_can_read_ends_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Closed(io.StringIO):
            def flush(self) -> None:
                raise BrokenPipeError

        class Listening:
            url = "http://0.0.0.0:8000"

        said = Closed()
        monkeypatch.setattr(sys, "stdout", said)
        server.welcome(Listening())  # type: ignore[arg-type]
        assert "http://127.0.0.1:8000" in said.getvalue()


# What the tests use


class Page:
    """The part of a page that speaks the protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._positions: dict[str, int] = {}
        self._answers: dict[Any, Any] = {}
        self._numbers = itertools.count()
        self.updates: list[dict[str, Any]] = []
        self.gaps = self.folded = self.violations = 0

    async def say(self, **message: Any) -> None:
        await self._connection.send(json.dumps(message))

    async def subscribe(self, *channels: str) -> None:
        await self.say(type="subscribe_updates", channels=channels)
        while not set(channels) <= set(self._positions):
            await self.step()

    async def ask(self, kind: str, data: Any = None) -> Any:
        number = next(self._numbers)
        await self.say(type=kind, id=number, data=data)
        while number not in self._answers:
            await self.step()
        return self._answers.pop(number)

    async def until(self, enough: Any) -> list[dict[str, Any]]:
        self.updates.clear()
        while not self.updates or not enough(self.updates):
            await self.step()
        return self.updates

    async def step(self) -> None:
        message = json.loads(await self._connection.recv())
        match message["type"]:
            case "batched_updates":
                for update in message["updates"]:
                    came_after = update.get("from", update["offset"] - 1)
                    self.violations += came_after != self._positions.get(update["channel"])
                    self.folded += update["offset"] - came_after - 1
                    self._positions[update["channel"]] = update["offset"]
                    self.updates.append(update)
            case "gap":
                self.violations += self._positions[message["channel"]] != message["from"]
                self._positions[message["channel"]] = message["to"]
                self.gaps += 1
            case "subscription_established":
                self._positions[message["channel"]] = message["offset"]
            case "error":
                raise AssertionError(message)
            case _ if "id" in message:
                self._answers[message["id"]] = message["data"]


class Endpoint:
    """An OpenAI-compatible endpoint that says hello."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}
        seen = self.seen

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                seen.update(authorization=self.headers["Authorization"], model=body["model"])
                if self.path != "/v1/chat/completions" or body["model"] == "unknown":
                    self.send_error(404, explain="no such model")
                    return
                self.send_response(200)
                self.end_headers()
                for piece in ("Hello ", body["messages"][-1]["content"]):
                    event = {"choices": [{"delta": {"content": piece}}]}
                    self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
                    self.wfile.flush()
                self.wfile.write(b"data: [DONE]\n\n")

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    found = Endpoint()
    thread = threading.Thread(target=found.server.serve_forever)
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Any]:
    demo = server.Demo(port=0, drain=1.0, **settings)
    async with demo.app.serve() as demo.server:
        try:
            yield demo
        finally:
            await demo.load.remove()


@asynccontextmanager
async def client(demo: Any, path: str = "/ws") -> AsyncIterator[Page]:
    async with connect(demo.server.url.replace("http", "ws") + path) as connection:
        page = Page(connection)
        if path == "/slow":  # the relay speaks first
            await page.say(type="authenticate", token="test")
        yield page


def fetch(url: str) -> str:
    with urllib.request.urlopen(url) as response:
        return str(response.read().decode())


def write_proc(root: Path) -> None:
    (root / "net").mkdir()
    files = {"stat": STAT, "meminfo": MEMINFO, "net/dev": NET, "diskstats": DISKS}
    for name, text in files.items():
        (root / name).write_text(text)


def batch(count: int) -> bytes:
    updates = ",".join(f'{{"channel":"c","offset":{offset},"data":0}}' for offset in range(1, count + 1))
    end = f'],"count":{count},"timestamp":"2026-01-02T03:04:05.678Z"}}'
    return ('{"type":"batched_updates","updates":[' + updates + end).encode()


def frame(payload: bytes, *, deflate: bool = False) -> bytes:
    first = 0x81
    if deflate:
        packer = zlib.compressobj(wbits=-15)
        payload = (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
        first = 0xC1
    if len(payload) < 126:
        return bytes([first, len(payload)]) + payload
    return bytes([first, 126]) + len(payload).to_bytes(2, "big") + payload


def crowd_of(update: dict[str, Any]) -> float:
    found = update["data"]["crowd"]["connected"]
    assert isinstance(found, int | float)
    return found


def expected() -> set[str]:
    """Channels that this system can fill."""
    there = {source.channel for source in sources.sources() if source.missing(PROC) is None}
    if not sources.parse_diskstats((PROC / "diskstats").read_text() if "host:disk" in there else ""):
        there.discard("host:disk")
    return there | {"demo:load", "demo:stats"}


NAMES = (
    *("published", "delivered", "batches", "lateness", "rate", "crowd", "slow", "ask", "send", "answer"),
    *("sources", "connections", "gaps", "violations", "state", "cut", "cuts", "recovered"),
    *("pane", "task"),
)

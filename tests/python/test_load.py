"""``umbel.load``: what a load counts, and what it makes of servers that are none."""

import asyncio
import contextlib
import json
import pathlib
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, get_args

import jsonschema
import pytest
from connecting import port_of
from umbel import Client, Message, Umbel
from umbel.load import Load, LoadConfig, LoadError, LoadResults, Scenario

SCHEMA = json.loads((pathlib.Path(__file__).parents[2] / "docs" / "load.schema.json").read_text())

QUICK: dict[str, Any] = {
    "target_connections": 20,
    "ramp_up_delay": 0.001,
    "rate": 50.0,
    "warm_up": 0.1,
    "seconds": 0.5,
    "check_every": 1,
    "timeout": 20.0,
}


def application() -> Umbel:
    app = Umbel()
    app.channel("load", open=True, publish=True)
    app.channel("load-{number}", open=True, publish=True)
    app.channel("mute", open=True)

    @app.on("ask")
    def ask(client: Client, message: Message) -> dict[str, Any]:
        return {"n": message.data["n"] + 1, "text": message.data["text"]}

    @app.on("lie")
    def lie(client: Client, message: Message) -> dict[str, Any]:
        return {"n": message.data["n"], "text": message.data["text"]}

    return app


@asynccontextmanager
async def serving(app: Umbel | None = None) -> AsyncIterator[str]:
    async with (app or application()).serve(port=0) as server:
        yield f"ws://127.0.0.1:{port_of(server)}/ws"


async def loaded(target: str, **values: Any) -> LoadResults:
    return await Load(LoadConfig(target=target, **(QUICK | values)))


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that is none: it does this with each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(listener.accept()[0])
                    answer(held[-1])

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}/ws"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for each in held:
                each.close()


async def test_every_publication_reaches_every_connection_and_is_counted_once() -> None:
    async with serving() as target:
        found = await loaded(target)
    assert (found.complete, found.error_rate, found.faults, found.lost) == (True, 0.0, {}, 0)
    assert found.messages == found.published * 20 > 0
    assert found.confirmed == found.published
    assert found.success_rate == 1.0
    assert (found.max_concurrent_connections, found.connection_failures) == (21, 0)  # with the publisher
    assert found.connect is not None and found.connect.count == 21
    assert found.latency is not None and 0 < found.latency.p50 <= found.latency.p99 <= found.latency.max
    assert found.average_latency == found.latency.mean
    assert found.lateness is not None and found.lateness.count == found.published


async def test_several_channels_publishers_and_channels_of_each_connection_are_counted_too() -> None:
    async with serving() as target:
        found = await loaded(target, channels=4, channels_per_connection=2, publishers=3)
    assert (found.faults, found.success_rate) == ({}, 1.0)
    assert found.messages * 4 == found.published * 20 * 2


async def test_readers_of_latest_values_get_those_and_it_is_no_fault() -> None:
    app = application()
    app.channel("latest", open=True, publish=True, mode="latest")
    async with serving(app) as target:
        found = await loaded(target, channel="latest", rate=500.0, check_every=2)
    assert found.faults == {} and found.messages > 0


@pytest.mark.parametrize("scenario", get_args(Scenario))
async def test_every_scenario_holds_with_200_connections(scenario: Any) -> None:
    async with serving() as target:
        found = await loaded(
            target,
            scenario=scenario,
            target_connections=200,
            rate=20.0,
            seconds=1.0,
            back_within=0.1,
            cuts=50.0,
        )
    assert (found.complete, found.faults, found.error_rate, found.lost) == (True, {}, 0.0, 0)
    assert found.max_concurrent_connections >= 200
    if scenario == "request":
        assert found.answers > 200
    elif scenario != "ramp":
        assert found.success_rate == 1.0


async def test_the_time_to_connect_is_that_of_streams_too() -> None:
    async with serving() as target:
        found = await loaded(target, scenario="sse")
    assert found.connect is not None and found.connect.count == 21  # with the publisher


async def test_in_a_storm_all_come_back_and_miss_nothing() -> None:
    async with serving() as target:
        found = await loaded(target, scenario="storm", back_within=0.2, seconds=20.0)
    assert (found.faults, found.lost) == ({}, 0)
    assert found.recovery is not None and found.recovery.count == 20
    assert found.messages == found.published * 20


async def test_in_chaos_readers_are_cut_and_come_back_and_nothing_is_lost_or_twice() -> None:
    async with serving() as target:
        found = await loaded(target, scenario="chaos", cuts=200.0, back_within=0.05, seconds=1.0)
        several = await loaded(
            target, scenario="chaos", cuts=200.0, back_within=0.05, channels=4, channels_per_connection=2
        )
    for each in (found, several):
        assert (each.faults, each.lost, each.success_rate) == ({}, 0, 1.0)
        assert each.recovery is not None and each.recovery.count > 20


async def test_answers_of_handlers_are_checked() -> None:
    async with serving() as target:
        right = await loaded(target, scenario="request", in_flight=3)
        wrong = await loaded(target, scenario="request", message_type="lie")
        none = await loaded(target, scenario="request", message_type="nothing")
    assert (right.faults, right.error_rate) == ({}, 0.0)
    assert right.answer is not None and right.answers >= right.answer.count > 20
    assert wrong.answers == 0 and any("other" in fault for fault in wrong.faults)
    assert none.answers == 0 and none.error_rate > 0.4
    assert [fault.partition(":")[0] for fault in none.faults] == ["error unknown_type"]


async def test_what_is_refused_is_named_with_its_code() -> None:
    async with serving() as target:
        mute = await loaded(target, channel="mute")
        with pytest.raises(LoadError, match=r"none of 20 connections .* unknown_channel"):
            await loaded(target, channel="unknown")
    assert mute.messages == 0 and mute.success_rate == 0.0
    assert [fault for fault in mute.faults if fault.startswith("error not_allowed: clients may not publish")]
    assert 0 < mute.error_rate < 1


async def test_each_second_is_told_while_it_runs_and_a_stop_gives_the_results_so_far() -> None:
    async with serving() as target:
        load = Load(LoadConfig(target=target, **(QUICK | {"seconds": 600.0})))
        async for second in load:
            assert second.open == 21
            if second.stage == "measured":
                load.stop()
        found = await load
    assert not found.complete
    assert found.messages > 0
    assert [each.at for each in found.seconds] == sorted({each.at for each in found.seconds})
    assert found.success_rate is None, "nobody knows what was due"


async def test_connections_begin_in_stages_and_at_their_pace() -> None:
    async with serving() as target:
        found = await loaded(target, ramp_up_rate=5, ramp_up_delay=0.05, stages=[(5, 1.2)], publishers=0)
    assert found.seconds[0].open == 5
    assert found.max_concurrent_connections == 20
    assert found.duration > 1.2 + 3 * 0.05


async def test_the_results_are_those_of_the_schema() -> None:
    async with serving() as target:
        found = await loaded(target)
        stopped = await loaded(target, scenario="ramp", seconds=0.1)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for each in (found, stopped):
        validator.validate(json.loads(json.dumps(each.to_json())))
    known = SCHEMA["properties"]
    assert found.to_json().keys() == known.keys()
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(found.to_json() | {"connectionFailures": "none"})


@pytest.mark.parametrize("scenario", ["fanout", "chaos"])
async def test_a_server_that_goes_away_ends_the_load_with_what_was_seen(scenario: Any) -> None:
    async with serving() as target:
        load = Load(LoadConfig(target=target, scenario=scenario, **(QUICK | {"seconds": 600.0})))
        async for second in load:
            if second.stage == "measured":
                break
    found = await load
    assert not found.complete
    assert found.messages > 0
    assert "all connections were lost" in found.faults


def closes(connection: socket.socket) -> None:
    connection.close()


def says_busy(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")


def says_what_controls_a_terminal(connection: socket.socket) -> None:
    connection.sendall("HTTP/1.1 200 \x1b[2J\u202ex\r\n\r\n".encode())


def says_garbage(connection: socket.socket) -> None:
    connection.sendall(b"\x00\xff" * 4096 + b"\r\n\r\n")


def says_no_end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"x" * 300_000)


def says_after_the_upgrade(what: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(UPGRADED + what)


def closes_after_the_upgrade(connection: socket.socket) -> None:
    connection.sendall(UPGRADED)
    connection.shutdown(socket.SHUT_RDWR)


UPGRADED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def takes_and_says_nothing(connection: socket.socket) -> None:
    pass


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (closes, "closed by the server|connect|receive|send"),
        (says_busy, "refused: HTTP/1.1 503"),
        (says_garbage, "refused"),
        (says_what_controls_a_terminal, r"refused: HTTP/1.1 \d+ \\u\{1b\}\[2J\\u\{202e\}x"),
        (takes_and_says_nothing, "did not open in time"),
        (says_no_end, "without an end"),
        (closes_after_the_upgrade, "closed by the server"),
        (says_after_the_upgrade(b""), "did not open in time"),
        (says_after_the_upgrade(b"\xff" * 1000), "no frame of a WebSocket server"),
        (says_after_the_upgrade(b"\x81\x7f" + b"\x7f" * 8), "no frame of a WebSocket server"),
        (says_after_the_upgrade(b"\x81\x82\0\0\0\0{}"), "no frame of a WebSocket server"),
        (says_after_the_upgrade(b"\x8f\x00"), "opcode 15"),
    ],
)
async def test_what_is_no_server_is_said(answer: Callable[[socket.socket], None], reason: str) -> None:
    with answering(answer) as target, pytest.raises(LoadError, match=reason):
        await loaded(target, timeout=0.5)


async def test_connections_come_from_as_many_addresses_as_they_may() -> None:
    seen: list[str] = []

    def look(connection: socket.socket) -> None:
        seen.append(connection.getpeername()[0])
        connection.close()

    with answering(look) as target, pytest.raises(LoadError):
        await loaded(target, sources=3)
    assert {*seen} == ({"127.0.0.1", "127.0.0.2", "127.0.0.3"} if sys.platform == "linux" else {*seen})


async def test_nobody_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(LoadError, match="refused"):
        await loaded(f"ws://127.0.0.1:{port}/ws")


async def test_localhost_is_where_a_server_listens_on_one_of_its_addresses() -> None:
    async with serving() as target:
        found = await loaded(target.replace("127.0.0.1", "localhost"), seconds=0.1)
    assert found.success_rate == 1.0


def test_a_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["127.0.0.1", "192.0.2.1"])

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    config = LoadConfig(target="ws://rebound.example:8000/ws")
    assert config.core()["address"] == "127.0.0.1:8000"
    assert config.core()["host"] == "rebound.example:8000"


def test_a_load_goes_to_another_machine_only_if_it_is_named_twice() -> None:
    target = "ws://192.0.2.1/ws"
    with pytest.raises(ValueError, match=r"not this machine.*--remote 192\.0\.2\.1"):
        LoadConfig(target=target)
    with pytest.raises(ValueError, match="not this machine"):
        LoadConfig(target=target, remote="192.0.2.2")
    LoadConfig(target=target, remote="192.0.2.1")
    for scenario in ("storm", "chaos", "slow-readers"):
        with pytest.raises(ValueError, match="--hostile"):
            LoadConfig(target=target, remote="192.0.2.1", scenario=scenario)  # type: ignore[arg-type]
        LoadConfig(target=target, remote="192.0.2.1", scenario=scenario, hostile=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"target": "localhost:8000"}, "ws://host:port/path"),
        ({"target": "ws://127.0.0.1:99999/ws"}, "no address"),
        ({"target": "ws://no-such-host.invalid/ws"}, "can't be found"),
        ({"scenario": "panic"}, "scenario is one of"),
        ({"target_connections": 0}, "at least 1"),
        ({"rate": -1}, "at least 0"),
        ({"rate": float("nan")}, "rate is a number; not nan"),
        ({"target": 5}, "target is a text; not 5"),
        ({"data_bytes": 1.5}, "data_bytes is a whole number; not 1.5"),
        ({"poll": 1}, "poll is true or false; not 1"),
        ({"headers": "x"}, "headers is a table of texts; not 'x'"),
        ({"tokens": "secret"}, "tokens is a list of texts; not this"),
        ({"stages": [1, 2]}, "stages is a list of pairs"),
        ({"stages": [(101, 1.0)]}, r"up to target_connections, 100.* not \[\(101"),
        ({"stages": [(20, 1.0), (10, 1.0)]}, "stages grow"),
        ({"channels_per_connection": 2}, "at most channels, 1"),
        ({"pid": 2**30}, "there is no process 1073741824"),
        ({"tokens": ["a"]}, "as many tokens"),
        ({"scenario": "storm", "deflate": True}, "deflate"),
    ],
)
def test_values_that_can_not_be_used_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LoadConfig(**({"target": "ws://127.0.0.1:8000/ws"} | values))


@pytest.mark.parametrize(
    ("stage", "values"),
    [
        ("rampUp", {"stages": [(3, 600.0)]}),
        ("measured", {"scenario": "storm", "back_within": 600.0, "seconds": 600.0}),
    ],
)
async def test_what_is_stopped_has_no_faults(stage: str, values: dict[str, Any]) -> None:
    async with serving() as target:
        load = Load(LoadConfig(target=target, **(QUICK | values)))
        async for second in load:
            if second.stage == stage:
                load.stop()
        results = await load
    assert (results.complete, results.faults) == (False, {})
    assert results.max_concurrent_connections >= 3


async def test_publications_of_somebody_else_are_said() -> None:
    async with serving() as target:
        other = Load(LoadConfig(target=target, **(QUICK | {"seconds": 600.0})))
        async for second in other:
            if second.stage == "measured":
                break
        results = await loaded(target, drain=0.1)
        other.stop()
        await other
    assert results.due is None and results.success_rate is None
    assert list(results.faults) == [
        "more came than this load has published: somebody else publishes there, too"
    ]


async def test_of_faults_that_are_all_different_the_first_ones_are_told() -> None:
    async with serving() as target:
        results = await loaded(target, scenario="request", message_type="lie", in_flight=30, drain=0.1)
    assert len(results.faults) == 21 and "others" in results.faults  # of 30


async def test_a_load_that_is_cancelled_stops() -> None:
    async with serving() as target:
        load = Load(LoadConfig(target=target, **(QUICK | {"seconds": 600.0})))

        async def wait() -> LoadResults:
            return await load

        waiting = asyncio.create_task(wait())
        while not load.snapshots():
            await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not (await load).complete

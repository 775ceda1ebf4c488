"""`umbel.testing`: an application under test, and what can happen to its clients."""

import asyncio
import gc
import os
from typing import Any

import pytest
from umbel import Client, ConnectionClosed, Identity, Message, Request, Umbel, testing
from umbel.client import RequestFailed


@pytest.fixture
def app() -> Umbel:
    """A chat that notes what happens to its clients."""
    app = Umbel()
    app.channel("room:{x}", open=True, publish=True, history_seconds=60)
    noted = app.noted = []  # type: ignore[attr-defined]
    app.on_away(lambda client, code, reason: noted.append("away"))
    app.on_back(lambda client: noted.append("back"))
    app.on_disconnect(lambda client, code, reason: noted.append(f"left {code}"))

    @app.on("whoami")
    def whoami(client: Client, message: Message) -> dict[str, Any]:
        return {"subject": client.identity.subject, "claims": dict(client.identity.claims)}

    return app


async def test_clients_of_one_application_share_a_server(app: Umbel) -> None:
    async with testing.connect(app, identity="ann") as ann:
        async with testing.connect(app, identity=Identity("ben", {"admin": True})) as ben:
            room = ben.subscribe("room:1")
            await room.ready()
            await ann.publish("room:1", "hello")
            assert (await anext(room))["data"] == "hello"
            assert await ann.request("whoami") == {"subject": "ann", "claims": {}}
            assert await ben.request("whoami") == {"subject": "ben", "claims": {"admin": True}}
        assert await ann.request("whoami")
        with pytest.raises(RuntimeError, match="being served"):
            await app.start(port=0)
        with pytest.raises(TypeError, match="no setting"):
            await testing.connect(Umbel(), tik=1.0).__aenter__()  # type: ignore[call-arg]
        with pytest.raises(RuntimeError, match="first client"):
            await testing.connect(app, tick=1.0).__aenter__()
    async with testing.connect(app) as nobody:
        assert (await nobody.request("whoami"))["subject"] == ""


async def test_the_function_of_the_application_is_asked_about_tokens_and_headers(app: Umbel) -> None:
    @app.authenticate
    def who(request: Request) -> str | None:
        return {"t1": "ann"}.get(request.token or "") or request.headers.get("x-user")

    async with testing.connect(app, token="t1") as ann:
        assert (await ann.request("whoami"))["subject"] == "ann"
    async with testing.connect(app, headers={"X-User": "ben"}) as ben:
        assert (await ben.request("whoami"))["subject"] == "ben"
    async with testing.connect(app, identity="eve") as eve:
        assert (await eve.request("whoami"))["subject"] == "eve"
    for refused in ({}, {"token": "t2"}, {"token": lambda: "t2"}):
        with pytest.raises(ConnectionClosed) as closed:
            await testing.connect(app, **refused).__aenter__()  # type: ignore[arg-type]
        assert closed.value.code == 4401


async def test_what_fails_in_the_application_fails_in_the_test(app: Umbel) -> None:
    app.authenticate(lambda request: 1 / 0)  # type: ignore[arg-type,return-value]
    with pytest.raises(ConnectionClosed) as closed:
        await testing.connect(app).__aenter__()
    assert closed.value.code == 1011
    async with testing.connect(app, identity="ann") as ann:
        with pytest.raises(RequestFailed) as failed:
            await ann.request("nonsense")
        assert failed.value.code == "unknown_type"


async def test_a_cut_loses_nothing(app: Umbel) -> None:
    noted: list[str] = app.noted  # type: ignore[attr-defined]
    async with testing.connect(app) as client:
        room = client.subscribe("room:1")
        await room.ready()
        for number in range(20):
            async with client.cut():
                app.publish("room:1", number)
            assert (await anext(room))["data"] == number
        assert noted == ["away", "back"] * 20
        assert (await client.request("whoami"))["subject"] == ""
    await testing.until(lambda: noted[-1] == "left 1000")


async def test_a_restart_loses_channels_and_says_so(app: Umbel) -> None:
    async with testing.connect(app) as client:
        room = client.subscribe("room:1")
        await room.ready()
        app.publish("room:1", "before")
        assert (await anext(room))["data"] == "before"
        await client.restart()
        app.publish("room:1", "after")
        missed = await anext(room)
        assert missed["gap"]["reason"] == "epoch"
        assert (await anext(room))["data"] == "after"


async def test_time_can_be_moved(app: Umbel) -> None:
    noted: list[str] = app.noted  # type: ignore[attr-defined]
    async with testing.connect(app) as client, testing.connect(app) as other:
        await client.publish("room:1", "old")
        client.advance(59)
        assert (await app.history("room:1")).publications
        client.advance(2)
        assert noted == []
        assert not (await app.history("room:1")).publications
        async with client.cut():
            client.advance(119)
            assert (await other.request("whoami"))["subject"] == ""
            assert noted == ["away"]
            client.advance(2)
            await testing.until(lambda: noted == ["away", "left 1006"])
        assert client.state.name == "connected", "with a new session"
    with pytest.raises(RuntimeError, match="server of this test"):
        client.advance(1)


async def test_a_request_that_nobody_answers_in_time_fails(app: Umbel) -> None:
    async with testing.connect(app) as client, client.cut():
        waiting = asyncio.create_task(client.request("whoami"))
        await asyncio.sleep(0)
        client.advance(61)
        with pytest.raises(RequestFailed) as failed:
            await waiting
        assert failed.value.code == "expired"


def held() -> tuple[int, ...]:
    """Files, threads and tasks of this process."""
    gc.collect()
    counts = (len(os.listdir(f"/proc/self/{kind}")) for kind in ("fd", "task"))
    return (*counts, len(asyncio.all_tasks()))


async def test_many_in_a_row_leave_nothing(app: Umbel) -> None:
    async def one() -> None:
        async with testing.connect(app, identity="ann") as ann:
            assert (await ann.request("whoami"))["subject"] == "ann"

    for _ in range(20):
        await one()
    before = held()
    for _ in range(int(os.environ.get("TESTING_ROUNDS", "200"))):
        await one()
    assert held() == before


async def test_states_are_live_maps_here_too(app: Umbel) -> None:
    app.channel("board:{x}", open=True, publish=True, mode="state")
    async with (
        testing.connect(app) as ann,
        testing.connect(app) as ben,
        ann.shared_state("board:1") as hers,
        ben.shared_state("board:1") as his,
    ):
        await hers.set("a", 1)
        async with ann.cut():
            await testing.until(lambda: his.get("a") == 1)
            await his.update("a", lambda a: a + 1)
            late, lost = hers.set("b", 1), hers.set("a", 3)
            assert dict(hers) == {"a": 3, "b": 1}
        await late
        with pytest.raises(RequestFailed, match="state_conflict"):
            await lost
        await testing.until(lambda: dict(hers) == dict(his) == {"a": 2, "b": 1})
        await ann.restart()
        await testing.until(lambda: dict(hers) == dict(his) == {})
        assert hers.whole
        await hers.set("a", 4)
        await testing.until(lambda: dict(hers) == dict(his) == {"a": 4})

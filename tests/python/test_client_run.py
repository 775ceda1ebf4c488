"""The client for Python programs: runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from breaking import breaking
from connecting import FAST, cut, port_of, through, until
from umbel import Message, Run, Umbel
from umbel.client import (
    RequestFailed,
    connect,
)


async def test_runs(app: Umbel) -> None:
    going = asyncio.Event()

    @app.stream("recite")
    async def recite(run: Run, message: Message) -> AsyncIterator[str]:
        for number in range(message.data["words"]):
            yield f"{number} "
            await asyncio.sleep(0.01)
        if message.data.get("wait"):
            await going.wait()
        if message.data.get("fail"):
            raise RuntimeError("expected")

    async with app.serve(port=0, reconnect_window=0.02) as server, through(server) as (umbel, network):
        run = umbel.run("recite", {"words": 20})
        text = ""
        async for piece in run:
            text += piece
            cut(network)
        assert text == "".join(f"{number} " for number in range(20))
        assert run.status == "complete"
        assert [piece async for piece in run] == []
        stopped = umbel.run("recite", {"words": 1, "wait": True})
        assert await anext(stopped) == "0 "
        assert await stopped.cancel() is True
        assert [piece async for piece in stopped] == []
        assert stopped.status == "cancelled"
        early = umbel.run("recite", {"words": 5, "wait": True})
        assert await early.cancel() is True
        assert [piece async for piece in early] == []
        assert early.status == "cancelled"
        assert await early.cancel() is False
        await until(lambda: app._server is None or not app._server.stats().panics)
        with pytest.raises(RequestFailed, match="unknown_type"):
            await anext(umbel.run("nothing"))
        failed = umbel.run("recite", {"words": 1, "fail": True})
        assert "".join([piece async for piece in failed]) == "0 "
        assert failed.status == "error"
        assert failed.incident
        position = await failed.ready()
        again = umbel.attach(failed.channel, position)
        with pytest.raises(ValueError, match="has not begun"):
            umbel.attach(umbel.run("recite", {"words": 1}).channel, position)
        assert "".join([piece async for piece in again]) == "0 "
        assert again.status == "error"


async def test_a_run_whose_server_is_gone_is_lost(app: Umbel) -> None:
    @app.stream("recite")
    async def recite(run: Run, message: Message) -> AsyncIterator[str]:
        yield "a "
        await asyncio.sleep(60)

    async with (
        app.serve(port=0, reconnect_window=0.02) as server,
        breaking(port_of(server)) as (url, network),
        connect(url, limits=FAST) as umbel,
    ):
        run = umbel.run("recite")
        assert await anext(run) == "a "
        other = Umbel()
        async with other.serve(port=0) as other_server:
            network.port = port_of(other_server)
            cut(network)
            assert [piece async for piece in run] == []
            assert run.status == "lost"


async def test_a_run_that_nobody_refers_to_is_not_read(app: Umbel) -> None:
    @app.stream("recite")
    async def recite(run: Run, message: Message) -> AsyncIterator[str]:
        runs.append(run)
        yield "a "
        await asyncio.sleep(0.5)

    runs: list[Run] = []
    async with app.serve(port=0) as server, connect(server.url) as umbel:
        umbel.run("recite")
        await until(lambda: runs and not app.subscribers(runs[0].channel))
        assert runs[0].status == "running"

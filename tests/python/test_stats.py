"""What is said of the counters: the stub repeats the core's own documentation, for editors."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path

import orjson
import pytest
from looping import on_loops
from programs import started
from serving import ROOT
from test_traces import masked, say, stream, until, upgrade
from umbel import Umbel, _core


def words(text: str | None) -> str:
    return " ".join((text or "").split()).replace("``", "`")


def stub() -> dict[str, str]:
    """Return the documentation of each counter in the stub."""
    tree = ast.parse((ROOT / "python" / "umbel" / "_core.pyi").read_text())
    (stats,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Stats"]
    properties = [node for node in stats.body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    return {node.name: words(ast.get_docstring(node)) for node in properties}


def test_the_stub_says_of_each_counter_what_the_core_says():
    names = [
        name for name, member in vars(_core.Stats).items() if type(member).__name__ == "getset_descriptor"
    ]
    assert stub() == {name: words(getattr(_core.Stats, name).__doc__) for name in names}
    assert all(stub().values())


@on_loops
async def test_an_application_has_the_counters_of_its_server(app: Umbel) -> None:
    with pytest.raises(RuntimeError, match="not being served"):
        app.stats()
    async with app.serve(port=0, shards=1) as server:
        app.publish("a", 1)
        assert app.stats().published == server.stats().published == 1
        assert (await asyncio.to_thread(app.stats)).channels == 1
    with pytest.raises(RuntimeError, match="not being served"):
        app.stats()
    assert server.stats().published == 1


def test_an_application_that_a_command_serves_has_counters(tmp_path: Path) -> None:
    (tmp_path / "feed.py").write_text(COUNTING)
    with started("-m", "umbel", "run", "feed:app", "--port", "0", cwd=tmp_path) as program:
        assert "published=3" in program.wait_line("<Stats")
        assert program.stop() == 0


COUNTING = """
from umbel import Umbel
app = Umbel()
app.channel("a", open=True)

@app.background
async def count():
    for number in range(3):
        app.publish("a", number)
    print(app.stats(), file=__import__("sys").stderr, flush=True)
"""


@on_loops
async def test_a_snapshot_is_a_dict_and_a_text(app: Umbel) -> None:
    async with app.serve(port=0, shards=1) as server:
        for number in range(7):
            app.publish("a", number)
        await say(server, upgrade("/nowhere"))
        await until(lambda: app.stats().connections == 0)
        stats = app.stats()
    everything = stats.as_dict()
    assert everything.keys() == stub().keys()
    assert all(everything[name] == getattr(stats, name) for name in everything)
    assert orjson.loads(orjson.dumps(everything)) == everything
    everything["published"] = 0
    assert stats.as_dict()["published"] == 7
    text = repr(stats)
    assert re.match("<Stats accepted=1 refused=1 .*channels=1 published=7 ", text)
    assert text.endswith("refused_by[not_found]=1 closed_by[response]=1>")
    assert "=0" not in text


@on_loops
async def test_a_snapshot_shows_how_late_deliveries_were(app: Umbel) -> None:
    app.channel("news:{topic}", open=True)
    async with app.serve(port=0, shards=1) as server, stream(server) as (reader, writer):
        writer.write(upgrade().encode())
        await reader.readuntil(b"connection_established")
        writer.write(masked({"type": "subscribe_updates", "channel": "news:a"}))
        await reader.readuntil(b"subscription_established")
        app.publish("news:a", 1)
        await reader.readuntil(b"batched_updates")
        await until(lambda: app.stats().delivered == 1)
        assert re.search(r"delivered=1 .* lateness=[\d.]+ ms \(p50\), [\d.]+ ms \(p99\)>$", repr(app.stats()))

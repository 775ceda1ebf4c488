"""Forked children and the end of the interpreter."""

import pytest
from fake_core import FakeCore
from looping import virtual
from programs import started
from umbel import lifetime

FORK = """
import asyncio, os, sys
from umbel import Umbel
app = Umbel()
app.channel("a", open=True)

async def main():
    async with app.serve(port=0) as server:
        app.publish("a", 1)
        child = os.fork()
        if child == 0:
            said = 0
            for use in (lambda: app.publish("a", 2), server.stats, server.stop):
                try:
                    use()
                except RuntimeError as error:
                    said += "forked child" in str(error)
            await server.__aexit__(None, None, None)
            os._exit(said)
        assert os.waitpid(child, 0)[1] == 3 << 8, "child"
        assert app.publish("a", 3).offset == 2
        assert server.stats().published == 2

asyncio.run(main())
print("parent ended", file=sys.stderr)
"""


def test_a_forked_child_can_not_use_the_server_and_the_parent_goes_on():
    with started("-W", "ignore::DeprecationWarning", "-c", FORK) as program:
        assert program.end() == 0, program.output
        assert "parent ended" in program.output


@virtual
async def test_what_is_alive_is_stopped_at_the_end(app, monkeypatch):
    monkeypatch.setattr("umbel.server.Core", FakeCore)
    async with app.serve(port=0):
        core = FakeCore.made
        core.stops = False
        lifetime.stop_all()
        assert core.named("stop") == [(0.0,)]
        assert core.named("join") == [(lifetime.EXIT_TIME,)]
        core.stops = True
        core.calls.clear()


@virtual
async def test_after_a_fork_everything_says_so(app, monkeypatch):
    monkeypatch.setattr("umbel.server.Core", FakeCore)
    monkeypatch.setattr(lifetime, "abandoned", [])
    app.on("x")(lambda client, message: None)
    async with app.serve(port=0) as server:
        core = FakeCore.made
        core.open()
        server._dispatcher.drain()
        client = server._dispatcher._clients[1]
        lifetime.after_fork()
        for use in (
            server.stats,
            lambda: app.publish("a", 1),
            lambda: client.send(1),
            lambda: client.close(),
        ):
            with pytest.raises(RuntimeError, match="forked child"):
                use()
        assert lifetime.abandoned == [core]
        assert server not in lifetime.alive
        server._core = server._dispatcher.core = core  # back in the parent

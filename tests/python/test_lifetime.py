"""Forked children and the end of the interpreter."""

import pytest
from fake_core import FakeCore
from looping import virtual
from programs import started
from umbel._serving import lifetime

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
        assert app.publish("a", 3).position.offset == 2
        assert server.stats().published == 2

asyncio.run(main())
print("parent ended", file=sys.stderr)
"""


FORK_AND_STOP = """
import asyncio, os, socket, sys
from umbel import Umbel
app = Umbel()
app.channel("a", open=True)

def connect():
    if sys.argv[1:]:
        client = socket.socket(socket.AF_UNIX)
        client.connect(sys.argv[1])
    else:
        client = socket.create_connection(address)
    client.settimeout(10)
    return client

def talk(client):
    client.sendall(UPGRADE)
    got = b""
    while b"connection_established" not in got:
        got += client.recv(4096)

UPGRADE = (b"GET /ws HTTP/1.1\\r\\nHost: test\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
    b"Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n")

async def main():
    global address
    where = {"unix_socket": sys.argv[1]} if sys.argv[1:] else {"port": 0}
    async with app.serve(**where, close_timeout=0.2) as server:
        address = ("127.0.0.1", int(server.url.rpartition(":")[2])) if not sys.argv[1:] else None
        other = socket.socketpair()
        client = connect()
        talk(client)
        child = os.fork()
        if child == 0:
            other[1].close()
            other[0].send(b"mine")  # what is not the server's stays open
            other[0].recv(1)
            os._exit(0)
        assert other[1].recv(4) == b"mine"
        talk(connect())
    while client.recv(4096):
        pass
    print("the client saw the end", file=sys.stderr)
    try:
        connect()
    except (ConnectionRefusedError, FileNotFoundError):
        print("nobody listens", file=sys.stderr)
    other[1].close()
    assert os.waitpid(child, 0)[1] == 0

asyncio.run(main())
"""


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_a_forked_child_does_not_keep_the_port_or_the_connections(family, tmp_path):
    path = [str(tmp_path / "umbel.sock")] if family == "unix" else []
    with started("-W", "ignore::DeprecationWarning", "-c", FORK_AND_STOP, *path) as program:
        assert program.end() == 0, program.output
        assert "the client saw the end" in program.output
        assert "nobody listens" in program.output


def test_a_forked_child_can_not_use_the_server_and_the_parent_goes_on():
    with started("-W", "ignore::DeprecationWarning", "-c", FORK) as program:
        assert program.end() == 0, program.output
        assert "parent ended" in program.output


@virtual
async def test_running_servers_are_stopped_when_the_interpreter_ends(app, monkeypatch):
    monkeypatch.setattr("umbel._serving.server.Core", FakeCore)
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
    monkeypatch.setattr("umbel._serving.server.Core", FakeCore)
    monkeypatch.setattr(lifetime, "abandoned", [])
    app.on("x")(lambda client, message: None)
    async with app.serve(port=0) as server:
        core = FakeCore.made
        core.open()
        server._dispatcher.drain()
        client = server._dispatcher._slots.by_number[1].client
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
        server._core = core  # back in the parent
        server._dispatcher.forked(core)

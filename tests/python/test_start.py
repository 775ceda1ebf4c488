"""A server that can't start all of itself does not start: it never listens without serving."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from serving import READY, ROOT, Server, http_status, running, served, wait_until
from umbel import Umbel
from websockets.asyncio.client import connect, unix_connect

FEW = "import os, resource, sys; n = int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))"
RUN = "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"


def test_with_too_few_descriptors_it_serves_or_ends_with_an_error() -> None:
    with running(served(shards=2)) as whole:
        needed = whole.descriptors()
        program = whole.command[1:]
    served_with = [serves(program, descriptors) for descriptors in range(needed - 7, needed + 1)]
    assert not served_with[0], "these are enough for all of it"


def serves(program: list[str], descriptors: int) -> bool:
    """Start a server with so many descriptors; ``False`` when it ends by itself with an error."""
    server = Server(sys.executable, "-c", f"{FEW}; {RUN}", str(descriptors), *program)
    ended = server.process.poll
    try:
        wait_until(lambda: "listening on" in server.output or ended() is not None, "it starts", READY)
        if ended() is not None:
            assert ended() != 0
            return False
        found = server.wait_line(r"listening on http://127.0.0.1:(\d+)")
        answers = [http_status(("127.0.0.1", int(found[1])), "/healthz") for _ in range(4)]
        said = "can't accept connections" in server.output
        assert said or answers == [200] * 4, f"with {descriptors} descriptors"
        return True
    finally:
        server.stop()


@pytest.mark.parametrize("first", [True, False], ids=["shared by shards", "not shared"])
@pytest.mark.parametrize("second", [True, False], ids=["shared by shards", "not shared"])
async def test_a_second_server_on_the_port_of_another_does_not_start(first: bool, second: bool) -> None:
    async with Umbel(port=0, shards=2, reuse_port=first).serve() as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(OSError) as caught:
            async with Umbel(port=port, shards=2, reuse_port=second).serve():
                pass
        assert caught.value.errno == errno.EADDRINUSE
        statuses = [await asyncio.to_thread(http_status, ("127.0.0.1", port), "/healthz") for _ in range(20)]
        assert statuses == [200] * 20


async def test_shards_that_share_a_port_all_accept_and_start_again_at_once() -> None:
    async with Umbel(port=0, shards=2, reuse_port=True).serve() as server:
        port = int(server.url.rpartition(":")[2])
    again = Umbel(port=port, shards=2, reuse_port=True).serve()
    async with again as server, contextlib.AsyncExitStack() as stack:
        for _ in range(40):
            await stack.enter_async_context(connect(f"ws://127.0.0.1:{port}/ws", proxy=None))
        assert server.stats().connections == 40


def test_a_unix_socket_is_not_shared() -> None:
    with pytest.raises(ValueError, match="reuse_port must be off with unix_socket"):
        Umbel(unix_socket="/tmp/x", reuse_port=True)


def test_a_start_that_fails_leaves_no_socket_file(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    program = f"""
import asyncio, resource, sys
sys.path.insert(0, {str(ROOT / "python")!r})
from umbel import Umbel
async def main():
    async with Umbel(unix_socket={str(path)!r}, shards=64).serve():
        print("serves")
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
try:
    asyncio.run(main())
except OSError as error:
    print("failed", error)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "failed" in ended.stdout, ended
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o660, 0o666, 0o600, None])
async def test_a_unix_socket_has_the_mode_that_is_set_whatever_the_umask(
    tmp_path: Path, mode: int | None
) -> None:
    path = tmp_path / "socket"
    before = os.umask(0o027)
    try:
        async with Umbel(unix_socket=str(path), unix_socket_mode=mode).serve():
            assert stat.S_IMODE(path.stat().st_mode) == (0o750 if mode is None else mode)
            assert os.umask(0o027) == 0o027, "the umask is of the whole process"
            async with unix_connect(str(path), "ws://localhost/ws") as client:
                assert "connection_established" in str(await client.recv())
    finally:
        os.umask(before)

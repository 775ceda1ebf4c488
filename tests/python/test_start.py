"""A server that can't start all of itself does not start: it never listens without serving."""

from __future__ import annotations

import sys

from serving import READY, Server, http_status, running, served, wait_until

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

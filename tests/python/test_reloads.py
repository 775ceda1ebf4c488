"""Many clients that come back, one client that does so again and again, and what the others notice of it."""

from __future__ import annotations

import contextlib
import json
import resource
from collections.abc import Iterator
from typing import Any, Final

import pytest
from hostile import CLOSE, TEXT, Ended, Peer, Subscriber, frame, handshake
from serving import Server, running, served

pytestmark = pytest.mark.timeout(120)

CHANNEL: Final = "news"


class Page(Peer):
    """A connection of a client that speaks first. What it says is sent with the request."""

    def __init__(self, server: Server, path: str = "/ws", *, source: str | None = None, **first: Any) -> None:
        super().__init__(server.address, source=source)
        self.asked = 0
        message = {"type": "authenticate", **first}
        request = handshake(path, add=["Sec-WebSocket-Protocol: umbel.v1.first, umbel.v1"])
        self.send(request + frame(TEXT, json.dumps(message).encode()))

    def greeting(self) -> dict[str, Any]:
        response = self.response()
        assert response.status == 101, response
        return self.read_json("connection_established")

    def ask(self, kind: str, **fields: Any) -> Any:
        """Ask a function of the application."""
        self.asked += 1
        self.send_json({"type": kind, "id": self.asked, **fields})
        return self.read_json(f"{kind}_result")["data"]


class Returning:
    """A client with one channel that keeps all of its sockets open."""

    def __init__(self, server: Server, stack: contextlib.ExitStack) -> None:
        self.server, self.stack = server, stack
        self.heard: list[Any] = []
        self.pages = [stack.enter_context(Page(server))]
        self.token: str = self.pages[0].greeting()["session"]["token"]
        self.pages[0].send_json({"type": "subscribe_updates", "channel": CHANNEL})
        established = self.pages[0].read_json("subscription_established")
        self.epoch, self.offset = established["epoch"], established["offset"]

    def resume(self, attempt: int) -> Page:
        place = {CHANNEL: {"epoch": self.epoch, "offset": self.offset}}
        first = {"type": "resume", "session": self.token, "attempt": attempt, "positions": place}
        return self.stack.enter_context(Page(self.server, **first))

    def begin_resume(self, attempt: int) -> None:
        self.pages.append(self.resume(attempt))

    def end_resume(self) -> None:
        page = self.pages[-1]
        assert page.greeting()["resumed"] is True
        established = page.read_json("subscription_established")
        assert (established["recovered"], established["offset"]) == (True, self.offset)

    def read_until(self, offset: int) -> None:
        while self.offset < offset:
            for update in self.pages[-1].read_json("batched_updates")["updates"]:
                assert update["offset"] == self.offset + 1
                self.offset = update["offset"]
                self.heard.append(update["data"])


@contextlib.contextmanager
def many_descriptors(server: Server) -> Iterator[int]:
    """Raise the limits of both processes; say what they allow."""
    own = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = own[1]
    for pid in (0, server.pid):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
    try:
        yield most
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, own)


def expect_superseded(page: Peer) -> None:
    with pytest.raises(Ended, match="closed with 4502"):
        while True:
            page.read_message()


def test_ten_resumes_in_a_row_with_all_sockets_open_and_a_late_one() -> None:
    with (
        running(served(shards=2)) as server,
        many_descriptors(server) as descriptors,
        Subscriber(server.address, []) as publisher,
        contextlib.ExitStack() as stack,
    ):
        clients = [Returning(server, stack) for _ in range(min(1000, descriptors // 15))]
        for attempt in range(1, 11):
            publisher.publish(CHANNEL, attempt)
            for client in clients:
                client.begin_resume(attempt)
            for client in clients:
                client.end_resume()
                client.read_until(attempt)
        late = [client.resume(attempt=9) for client in clients]
        for page in late:
            assert page.response().status == 101
            expect_superseded(page)
        publisher.publish(CHANNEL, 11)
        for client in clients:
            client.read_until(11)
            assert client.heard == list(range(1, 12))
            for page in client.pages[:-1]:
                expect_superseded(page)


def test_a_stranger_that_comes_and_goes_ends_nobody_elses_session_and_is_not_refused() -> None:
    with running(served(shards=1, max_away=5, max_connections=50)) as server:
        tokens = []
        for number in (2, 3):
            page = Page(server, source=f"127.0.0.{number}")
            tokens.append(page.greeting()["session"]["token"])
            page.reset()
        for _ in range(200):
            stranger = Page(server)
            stranger.greeting()
            stranger.reset()
        for token in tokens:
            with Page(server, type="resume", session=token, attempt=1, positions={}) as page:
                assert page.greeting()["resumed"] is True


def test_ten_reloads_at_the_limit_of_an_identity_are_not_refused() -> None:
    settings: Any = {"max_connections_per_identity": 2}
    with running(served(authenticate=True, shards=1, **settings)) as server:
        other = Page(server, "/ws?user=ben")
        token = other.greeting()["session"]["token"]
        other.reset()
        with Page(server, "/ws?user=ann") as tab:
            tab.greeting()
            for _ in range(10):
                with Page(server, "/ws?user=ann") as page:
                    page.greeting()
                    page.send_frame(CLOSE, (1001).to_bytes(2, "big"))
            # The same with a page that remembers its session.
            page = Page(server, "/ws?user=ann")
            session = page.greeting()["session"]["token"]
            for attempt in range(1, 11):
                page.reset()
                first = {"type": "resume", "session": session, "attempt": attempt, "positions": {}}
                page = Page(server, "/ws?user=ann", **first)
                assert page.greeting()["resumed"] is True
            page.reset()
            tab.send_json({"type": "heartbeat", "id": 1})
            tab.read_json("heartbeat_ack")
        with Page(server, "/ws?user=ben", type="resume", session=token, attempt=1, positions={}) as other:
            assert other.greeting()["resumed"] is True


def test_a_client_that_has_come_back_does_not_give_way_to_a_newcomer_that_python_hears_of_first() -> None:
    settings: Any = {"max_connections_per_identity": 2}
    with (
        running(served(authenticate="at once", shards=1, **settings)) as server,
        Page(server, "/ws?user=ann") as tab,
    ):
        tab.greeting()
        page = Page(server, "/ws?user=ann")
        session = page.greeting()["session"]["token"]
        page.reset()
        while tab.ask("count")["connections"] > 1:
            pass
        tab.ask("count")  # after Python was told that the client is away
        tab.send_json({"type": "block_the_loop", "seconds": 1})
        tab.read_json("batched_updates")
        with (
            Page(server, "/ws?user=ann") as newcomer,
            Page(server, "/ws", type="resume", session=session, attempt=1, positions={}) as back,
        ):
            assert back.greeting()["resumed"] is True, "while Python does nothing"
            assert newcomer.response().status == 101
            assert newcomer.read_json("error")["code"] == "limit_exceeded"
            assert back.ask("take_time", data=7) == 7

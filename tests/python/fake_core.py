"""A core in memory: events are put in by the test, and what Python tells it is written down."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import orjson
from umbel import _core


@dataclass(frozen=True)
class FakePosition:
    epoch: str
    offset: int


@dataclass(frozen=True)
class FakeReceipt:
    position: FakePosition


@dataclass
class FakeHandshake:
    path: str = "/ws"
    query: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    peer: str = "127.0.0.1:5000"
    secure: bool = False
    route: int | None = None
    params: tuple[str, ...] = ()
    token: str | None = None
    other_credential: bool = False
    is_caller: bool = False
    identity: tuple[str, bytes, float | None] | None = None
    client_id: str = "c1"
    connection: int = 1


class FakeCore:
    """Has the methods of Core. `calls` lists what was called; publish, send and reply have their own."""

    made: FakeCore | None = None

    def __init__(
        self, config: bytes = b"{}", pages: dict[str, Any] | None = None, verifier: object = None
    ) -> None:
        FakeCore.made = self
        self.config = orjson.loads(config)
        self.pages = pages
        self.verifier = verifier
        self.calls: list[tuple[Any, ...]] = []
        self.published: list[tuple[str, Any, str | None]] = []
        self.replies: list[tuple[int, Any]] = []
        self.sent: list[tuple[int, Any]] = []
        self.events: deque[tuple[Any, ...]] = deque()
        self.gone: set[int] = set()
        self.debug: bool | None = None
        self.waiting = 0
        self.stops = True
        self.has_room = True
        self.watched = False
        self.functions: tuple[int, list[tuple[str, int, float, float]]] | None = None
        self.subscribes = True
        self._reader, self._writer = os.pipe()
        self._questions = 0

    # What the test does

    def put(self, *event: Any) -> None:
        if not self.events:
            os.write(self._writer, b"!")
        self.events.append(event)

    def open(self, number: int = 1, **fields: Any) -> None:
        self.put(_core.OPEN, number, FakeHandshake(**{"client_id": f"c{number}"} | fields))

    def message(self, number: int, type: str, id: Any = None, **fields: Any) -> None:
        text = orjson.dumps({"type": type, **({} if id is None else {"id": id}), **fields})
        self.put(_core.MESSAGE, number, None, type, None if id is None else orjson.dumps(id), text)

    def ask_subscribe(self, number: int, rule: int, channel: str, *params: str) -> int:
        """Ask whether a client may subscribe; returns the number of the question."""
        self._questions += 1
        self.put(_core.SUBSCRIBE, number, None, self._questions, rule, channel, params)
        return self._questions

    def ask_publish(self, number: int, rule: int, channel: str, *params: str, data: Any = None) -> int:
        """Ask whether a client may publish; returns the number of the question."""
        self._questions += 1
        self.put(
            _core.PUBLISH,
            number,
            None,
            self._questions,
            rule,
            channel,
            params,
            orjson.dumps(data),
            None,
            "set",
        )
        return self._questions

    def away(self, number: int, code: int = 1006, reason: str = "") -> None:
        self.put(_core.AWAY, number, code, reason)

    def back(self, number: int, **fields: Any) -> None:
        self.put(_core.BACK, number, FakeHandshake(**{"client_id": f"c{number}"} | fields))

    def closed(self, number: int, code: int = 1001, reason: str = "") -> None:
        self.gone.add(number)
        self.put(_core.CLOSED, number, code, reason)

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of all calls of one method."""
        return [call[1:] for call in self.calls if call[0] == name]

    def of_type(self, type: str) -> list[Any]:
        """The publications of one type."""
        return [data for _, data, _ in self.published if data["type"] == type]

    # What Python does

    def members(self) -> FakeCore:
        return self

    def know(self, client: int, channel: str, number: int, subject: str | None, /) -> None:
        self.calls.append(("know", client, channel, number, subject))

    def present(self, channel: str, /) -> list[Any] | None:
        return None

    def when_room(self, channel: str, number: int, /) -> bool:
        self.calls.append(("when_room", channel, number))
        return self.has_room

    def when_client_room(self, client: int, number: int, /) -> bool:
        self.calls.append(("when_client_room", client, number))
        return self.has_room

    def ticket(self, subject: str, claims: bytes, expires: int | None, origin: str | None, /) -> str:
        self.calls.append(("ticket", subject, orjson.loads(claims), expires, origin))
        return "a ticket"

    def start(self) -> list[str]:
        self.calls.append(("start",))
        return ["http://127.0.0.1:8000"]

    def fileno(self) -> int:
        return self._reader

    def drain(self, limit: int, /) -> list[tuple[Any, ...]]:
        batch = [self.events.popleft() for _ in range(min(limit, len(self.events)))]
        if not self.events:
            os.set_blocking(self._reader, False)
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader, 4096)
        return batch

    def publish(
        self, channel: str, data: bytes, key: str | None = None, event: str | None = None, /
    ) -> FakeReceipt:
        self.published.append((channel, orjson.loads(data), key))
        return FakeReceipt(FakePosition("e", len(self.published)))

    def history(
        self, channel: str, after: Any, limit: int, /
    ) -> tuple[bool, list[tuple[Any, str | None, bytes | None, int, bytes | None]]]:
        return False, []

    def change_state(
        self,
        channel: str,
        key: str,
        data: bytes | None,
        event: str | None,
        version: Any,
        is_patch: bool,
        /,
    ) -> FakeReceipt:
        self.published.append((channel, None if data is None else orjson.loads(data), key))
        return FakeReceipt(FakePosition("e", len(self.published)))

    def entries(
        self, channel: str, key: str | None = None, /
    ) -> list[tuple[Any, str | None, bytes | None, int, bytes | None]]:
        return []

    def position(self, channel: str, /) -> FakePosition:
        return FakePosition("e", len(self.published))

    def subscribers(self, channel: str, /) -> int:
        return 0

    def send(self, client: int, data: bytes, key: str | None = None, /) -> FakeReceipt | None:
        if client in self.gone:
            return None
        self.sent.append((client, orjson.loads(data)))
        return FakeReceipt(FakePosition("p", len(self.sent)))

    def reply(self, client: int, message_type: str, message_id: bytes | None, data: bytes, /) -> bool:
        return self._reply(client, {"type": f"{message_type}_result"}, message_id, data=orjson.loads(data))

    def reply_error(
        self,
        client: int,
        code: str,
        message: str,
        message_id: bytes | None = None,
        details: bytes | None = None,
        is_fault: bool = False,
        /,
    ) -> bool:
        error = {"type": "error", "code": code, "message": message}
        fields = {} if details is None else {"details": orjson.loads(details)}
        return self._reply(client, error, message_id, **fields)

    def _reply(self, client: int, body: dict[str, Any], message_id: bytes | None, **fields: Any) -> bool:
        identified = {} if message_id is None else {"id": orjson.loads(message_id)}
        self.replies.append((client, body | identified | fields))
        return client not in self.gone

    def send_text(self, client: int, text: str, /) -> int | None:
        self.calls.append(("send_text", client, text))
        return None if client in self.gone else self.waiting

    def send_binary(self, client: int, data: bytes, /) -> int | None:
        self.calls.append(("send_binary", client, data))
        return None if client in self.gone else self.waiting

    def admit(self, client: int, subject: str, expires: int | None, claims: bytes | None = None, /) -> bool:
        self.expires = expires
        self.claims = claims
        return self._called("admit", client, subject)

    def end_subject(self, subject: str, code: int, reason: str, /) -> None:
        self.calls.append(("end_subject", subject, code, reason))

    def advance_clock(self, seconds: float, /) -> None:
        raise NotImplementedError

    def admin_url(self) -> str | None:
        return None

    def note_load(
        self,
        running: int,
        called: int,
        called_for: float,
        busy: float,
        log_lines_dropped: int,
        functions: tuple[int, list[tuple[str, int, float, float]]] | None = None,
        /,
    ) -> bool:
        self.load = (running, called, called_for, busy, log_lines_dropped)
        self.functions = functions
        return self.watched

    def keys_settled(self) -> None:
        self._called("keys_settled")

    def set_debug(self, wanted: bool, /) -> None:
        self.debug = wanted

    def close(self, client: int, code: int, reason: str, /) -> bool:
        return self._called("close", client, code, reason)

    def give_way(self, client: int, /) -> bool:
        return self._called("give_way", client)

    def subscribe(
        self, client: int, channel: str, message_id: bytes | None = None, number: int | None = None, /
    ) -> bool:
        done = self._called("subscribe", client, channel, *((message_id,) if message_id is not None else ()))
        if done and number is not None:
            self.put(_core.SUBSCRIBED, number, self.subscribes)
        return done

    def finish(self, channel: str, /) -> None:
        self.calls.append(("finish", channel))

    def forget(self, channel: str, /) -> None:
        self.calls.append(("forget", channel))

    def unsubscribe(self, client: int, channel: str, reason: str, /) -> bool:
        return self._called("unsubscribe", client, channel, reason)

    def allow(
        self,
        client: int,
        question: int,
        data: bytes | None = None,
        version: Any = None,
        conflict: str | None = None,
        /,
    ) -> bool:
        return self._called("decide", client, question, True, "", "", *((data,) if data is not None else ()))

    def deny(
        self, client: int, question: int, code: str, message: str, details: bytes | None = None, /
    ) -> bool:
        extra = (details,) if details is not None else ()
        return self._called("decide", client, question, False, code, message, *extra)

    def begin_reading(self, client: int, /) -> bool:
        return self._called("begin_reading", client)

    def stats(self, log_lines_dropped: int, /) -> str:
        return "stats"

    def reread_certificate(self) -> bool:
        return False

    def stop(self, within: float, /) -> None:
        self.calls.append(("stop", within))
        if self.stops and len(self.named("stop")) == 1:
            self.put(_core.STOPPED)

    def join(self, timeout: float, /) -> bool:
        self.calls.append(("join", timeout))
        return True

    def _called(self, name: str, client: int, *arguments: Any) -> bool:
        self.calls.append((name, client, *arguments))
        return client not in self.gone

"""The requests of a client: the window, the queue, repetition, and what becomes of each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._machine_channels import position_of
from ._machine_line import JSON, Line, encode


@dataclass(slots=True)
class Request:
    """A request that has no answer yet.

    Attributes:
        kind: ``request``, ``publish``, ``change`` or ``run``.
        given: the application has given it up after it was sent.
    """

    kind: str
    text: str
    expires: float
    given: bool = False


class Requests:
    """Sends requests in the order in which they were made, and settles each once.

    At most `window` requests are unanswered, which are in `sent`. The others wait in `queue`.
    """

    def __init__(self, line: Line, options: JSON, attach: Callable[[JSON, bool], Any]) -> None:
        self._line = line
        self._options = options
        self._attach = attach
        self.window = 64
        self.sent: dict[int, Request] = {}
        self.queue: dict[int, Request] = {}
        self._size = 0
        self._lost_at: float | None = None

    def add(self, now: float, kind: str, message: JSON, volatile: bool) -> int:
        key = self._line.number()
        text = encode({**message, "id": key})
        self.queue[key] = Request(kind, text, now + self._options["queue_age"])
        self._size += len(text)
        self.flush()
        if key in self.queue:
            if volatile:
                self._drop(key, "expired")
            elif len(self.queue) > self._options["queue"] or self._size > self._options["queue_size"]:
                self._drop(key, "queue_full")
        return key

    def cancel(self, key: int) -> None:
        if key in self.queue:
            self._drop(key, "cancelled")
        elif (request := self.sent.get(key)) and not request.given:
            self._fail(key, request, "cancelled")
            if request.kind == "run" and self._line.connected:
                self._line.send({"type": "ai_cancel", "data": {"request": key}})
            # Until its answer comes, the server counts it, so it is repeated, too. A run that has begun in
            # spite of that is stopped when the answer names it.
            request.given = True

    def flush(self) -> None:
        while self._line.connected and self.queue and len(self.sent) < self.window:
            key = next(iter(self.queue))
            request = self.sent[key] = self._take(key)
            self._line.send_text(request.text)

    def answered(self, message: JSON) -> bool:
        """Settle the request that a message answers. Returns whether there is one."""
        key = message.get("id")
        if type(key) is not int or not (request := self.sent.get(key)):
            return False
        if message["type"] == "error":
            self._fail(key, request, message["code"], message["message"], message.get("details"))
        elif request.kind == "publish":
            self._settle(key, request, True, {"channel": message["channel"], "offset": message["offset"]})
        elif request.kind == "change":
            epoch, offset = position_of(message, "offset")
            resolved = {"resolved": True} if message.get("resolved") else {}
            self._settle(key, request, True, {"epoch": epoch, "offset": offset, **resolved})
        elif message["type"] != "subscription_established":
            self._settle(key, request, True, message.get("data"))
        else:
            run = {"channel": message["channel"], "epoch": message["epoch"]}
            if request.kind == "run":
                run["subscription"] = self._attach(message, request.given)
            self._settle(key, request, True, run)
        del self.sent[key]
        self.flush()
        return True

    def connected(self, resumed: bool) -> None:
        """Repeat what was sent in this session, or settle what was sent in another one."""
        self._lost_at = None
        if not resumed:
            self.lose()
        for request in self.sent.values():
            self._line.send_text(request.text)

    def disconnected(self, lost_at: float) -> None:
        """Called when a connection has ended, with the time when its session ends, too."""
        if self.sent and self._lost_at is None:
            self._lost_at = lost_at

    def lose(self) -> None:
        """Settle what was sent: nobody will know whether it was done."""
        sent, self.sent, self._lost_at = self.sent, {}, None
        for key, request in sent.items():
            self._fail(key, request, "outcome_unknown")

    def drop_all(self, code: str) -> None:
        """Settle everything."""
        self.lose()
        for key in list(self.queue):
            self._drop(key, code)

    def expire(self, now: float) -> None:
        """Settle what is too old. Called at `deadline` or later."""
        if self._lost_at is not None and now >= self._lost_at:
            self.lose()
        while self.queue:
            key = next(iter(self.queue))
            if now < self.queue[key].expires:
                return
            self._drop(key, "expired")

    def deadlines(self) -> list[float | None]:
        first = next(iter(self.queue.values()), None)
        return [self._lost_at, first.expires if first else None]

    def _take(self, key: int) -> Request:
        request = self.queue.pop(key)
        self._size -= len(request.text)
        return request

    def _drop(self, key: int, code: str) -> None:
        self._fail(key, self._take(key), code)

    def _fail(self, key: int, request: Request, code: str, message: str = "", details: Any = None) -> None:
        error = {"code": code, "message": message or code, "details": details}
        self._settle(key, request, False, error)

    def _settle(self, key: int, request: Request, ok: bool, value: Any) -> None:
        if not request.given:
            self._line.act("settled", key, ok, value)

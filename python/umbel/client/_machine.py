"""What a client does: a machine without sockets, clocks and chance.

Events go in, each with the time in milliseconds. `Machine.actions` says what the shell has to do, in order,
and `Machine.deadline` when it has to call `Machine.tick`. The JavaScript client has a machine that does the
same. Both are tested with `clients/vectors`.
"""

from collections.abc import Callable
from typing import Any, Final

import orjson

from ._machine_line import JSON, Line
from ._machine_requests import Requests
from ._machine_subscriptions import Subscriptions

OPTIONS: Final[JSON] = {
    "ask_token": False,  # the shell is asked for a token before each attempt
    "token": None,  # or it is always this one
    "window": 1000,  # the first retry is within so many ms, until a server says otherwise
    "base": 1000,  # later ones are at a random moment within base * factor ** n, at most cap
    "factor": 2,
    "cap": 30_000,
    "useful": 10_000,  # ms that a connection has to last so that the next retry is a first one
    "failing": 5,  # failures in a row that are reported as failing
    "attempts": 5,  # at most so many attempts
    "attempts_in": 10_000,  # in any time of so many ms
    "attempt_timeout": 10_000,  # ms from asking for the token until the client is let in
    "answer_timeout": 10_000,  # ms in which a silent server has to answer
    "probe_timeout": 5_000,  # ms in which it has to answer a probe
    "late": 1_000,  # a tick that is so late says nothing about the server: it gets a probe
    "queue": 1_000,  # requests that wait to be sent
    "queue_size": 1 << 20,  # characters
    "queue_age": 60_000,  # ms
}


class Machine:
    """One client.

    Attributes:
        state: ``idle``, ``connecting``, ``connected``, ``waiting`` or ``closed``.
    """

    def __init__(self, options: JSON, random: Callable[[], float]) -> None:
        self._options = {**OPTIONS, **options}
        self._random = random
        self._line = Line()
        self._subscriptions = Subscriptions(self._line)
        self._requests = Requests(self._line, self._options, self._subscriptions.attach)
        self.actions = self._line.actions
        self.state = "idle"
        self._window = self._options["window"]
        self._starts: list[float] = []  # of the newest attempts
        self._failures = 0
        self._last: JSON = {}  # the reason of the last close
        self._retry_at: float | None = None
        self._answer_by: float | None = None
        self._again_at: float | None = None
        self._tries = 0
        self._heard_at = self._connected_at = 0.0
        self._heartbeat = 0.0
        self._token: str | None = None
        self._asking = False
        self._refused: str | None = None
        self._refusals = 0
        self._subject: Any = ...
        self._session: JSON | None = None
        self._resumes = 0
        self._resuming = False

    # What the application wants

    def connect(self, now: float) -> None:
        if self.state in ("idle", "closed"):
            self._failures = self._refusals = 0
            self._begin(now)

    def close(self, now: float) -> None:
        if self.state in ("connecting", "connected"):
            self._line.act("drop", self._line.attempt, 1000)
        if self.state != "closed":
            self._close(1000, "closed by the application")

    def subscribe(self, now: float, channel: str, position: JSON | None = None) -> int:
        position = position or {"epoch": "", "offset": 0}
        key = self._subscriptions.subscribe(channel, position["epoch"], position["offset"])
        if self.state == "closed":
            self._subscriptions.end_all(CLOSED)
        return key

    def unsubscribe(self, now: float, id: int) -> None:
        self._subscriptions.unsubscribe(id)

    def request(self, now: float, type: str, data: Any, volatile: bool = False) -> int:
        return self._add(now, "request", {"type": type, "data": data}, volatile)

    def publish(self, now: float, channel: str, data: Any, key: str | None, volatile: bool = False) -> int:
        message = {"type": "publish", "channel": channel, "data": data}
        return self._add(now, "publish", message if key is None else {**message, "key": key}, volatile)

    def present(self, now: float, channel: str, change: JSON, volatile: bool = False) -> int:
        message = {"type": "presence_update", "channel": channel, **change}
        return self._add(now, "request", message, volatile)

    def change(self, now: float, message: JSON) -> int:
        return self._add(now, "change", message, False)

    def run(self, now: float, type: str, data: Any) -> int:
        return self._add(now, "run", {"type": type, "data": data}, False)

    def cancel(self, now: float, key: int) -> None:
        self._requests.cancel(key)

    # What happens

    def token(self, now: float, ticket: int, value: str | None) -> None:
        if not self._asks(ticket):
            return
        self._asking = False
        if value is not None and value == self._refused:
            self._line.act("warn", "the token function returned the token that was refused")
            self._lost(now, 1006, "the token was refused before")
        else:
            self._token = value
            self._line.act("open", ticket)

    def token_failed(self, now: float, ticket: int, error: str) -> None:
        if self._asks(ticket):
            self._line.act("warn", f"the token function failed: {error}")
            self._lost(now, 1006, f"the token function failed: {error}")

    def opened(self, now: float, attempt: int, protocol: str) -> None:
        if self.state != "connecting" or attempt != self._line.attempt:
            return
        if protocol not in (FIRST, PLAIN):
            self._line.act("drop", attempt, 4400)
            self._close(1002, "the server speaks another protocol")
        elif protocol == PLAIN:
            if self._token is not None:
                self._line.act("warn", "the server is too old to be told a token")
        else:
            token = {} if self._token is None else {"token": self._token}
            if self._session is None:
                self._line.send({"type": "authenticate", **token})
            else:
                self._resumes += 1
                self._resuming = True
                session = {"session": self._session["token"], "attempt": self._resumes}
                positions = self._subscriptions.resume()
                self._line.send({"type": "resume", **session, "positions": positions, **token})

    def received(self, now: float, attempt: int, text: str | bytes) -> None:
        if self.state not in ("connecting", "connected") or attempt != self._line.attempt:
            return
        self._heard_at = now
        if self._line.connected:
            self._answer_by = None
        try:
            message = orjson.loads(text)
            if message["type"] == "batched_updates" and self._line.connected:
                self._subscriptions.batch(message["updates"])
            else:
                self._dispatch(now, message)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._line.act("warn", f"the server breaks the protocol: {error}")
            self._line.act("drop", attempt, 4400)
            self._lost(now, 4400, "the server breaks the protocol")

    def closed(self, now: float, attempt: int, code: int, reason: str) -> None:
        if self.state in ("connecting", "connected") and attempt == self._line.attempt:
            self._lost(now, code, reason)

    def failed(self, now: float, attempt: int, reason: str, fatal: bool) -> None:
        if self.state == "connecting" and attempt == self._line.attempt:
            if fatal:
                self._close(1002, reason)
            else:
                self._lost(now, 1006, reason)

    def probe(self, now: float, reason: str) -> None:
        """Something may have happened to the connection: the server has to show that it is there."""
        by = now + self._options["probe_timeout"]
        if self.state == "waiting":
            self._begin(now)
        elif self.state == "connected" and not (self._answer_by and now < self._answer_by <= by):
            self._answer_by = by
            self._line.send({"type": "heartbeat"})
        elif self.state == "connecting" and self._answer_by is not None and self._answer_by <= now:
            self._answer_by = by

    def tick(self, now: float) -> None:
        if self._retry_at is not None and now >= self._retry_at:
            self._begin(now)
        elif self._answer_by is not None and now >= self._answer_by:
            if now - self._answer_by > self._options["late"]:
                self.probe(now, "late")
            else:
                self._line.act("drop", self._line.attempt, 4408)
                self._lost(now, 4408, "no answer from the server")
        elif (ping_at := self._ping_at()) is not None and now >= ping_at:
            self._answer_by = now + self._options["answer_timeout"]
            self._line.send({"type": "heartbeat"})
        if self._again_at is not None and now >= self._again_at:
            self._again_at = None
            self._subscriptions.ask_all()
        self._requests.expire(now)

    @property
    def deadline(self) -> float | None:
        """When `tick` is due, if it is."""
        times = [
            self._retry_at,
            self._answer_by,
            self._ping_at(),
            self._again_at,
            *self._requests.deadlines(),
        ]
        return min((time for time in times if time is not None), default=None)

    # Inside

    def _add(self, now: float, kind: str, message: JSON, volatile: bool) -> int:
        key = self._requests.add(now, kind, message, volatile)
        if self.state == "closed":
            self._requests.drop_all("closed")
        return key

    def _asks(self, ticket: int) -> bool:
        return self.state == "connecting" and self._asking and ticket == self._line.attempt

    def _ping_at(self) -> float | None:
        if not self._line.connected or not self._heartbeat or self._answer_by is not None:
            return None
        return self._heard_at + self._heartbeat

    def _begin(self, now: float) -> None:
        """Begin an attempt, or wait until there may be one."""
        if now < self._earliest():
            self._wait(now)
            return
        self._starts = [*self._starts, now][-self._options["attempts"] :]
        self._line.attempt += 1
        self._retry_at = None
        self._answer_by = now + self._options["attempt_timeout"]
        self._set_state("connecting", {})
        self._asking = self._options["ask_token"]
        if self._asking:
            self._line.act("ask_token", self._line.attempt)
        else:
            self._token = self._options["token"]
            self._line.act("open", self._line.attempt)

    def _earliest(self) -> float:
        if len(self._starts) < self._options["attempts"]:
            return 0
        return self._starts[0] + float(self._options["attempts_in"])

    def _wait(self, at: float) -> None:
        self._retry_at = max(at, self._earliest())
        failing = self._failures >= self._options["failing"]
        self._set_state("waiting", {**self._last, "at": self._retry_at, "failing": failing})

    def _set_state(self, state: str, detail: JSON) -> None:
        self.state = state
        self._line.act("state", state, detail)

    def _dispatch(self, now: float, message: JSON) -> None:
        kind = message["type"]
        if kind == "connection_established":
            if not self._line.connected:
                self._established(now, message)
        elif not self._line.connected:
            if kind != "error":
                raise ValueError(f"the first message is {kind}")
        elif kind == "reconnect":
            self._window = float(message["within"])
        elif kind == "gap":
            self._subscriptions.gap(message)
        elif self._requests.answered(message):
            pass
        elif kind == "subscription_established":
            self._subscriptions.established(message)
        elif kind == "subscription_ended":
            self._subscriptions.ended(message)
        elif kind == "error":
            self._error(now, message)

    def _established(self, now: float, message: JSON) -> None:
        """The server has let the client in. Whoever the client is now is decided before anything is sent."""
        subject, client_id, session = message["subject"], message["clientId"], message.get("session")
        heartbeat, window = float(message["heartbeat"]), float(message["reconnectWindow"])
        same = self._subject is ... or subject == self._subject
        resumed = message.get("resumed") is True
        if not resumed:
            self._session = session and {"token": session["token"], "ttl": float(session["ttl"])}
            self._resumes = 0
        self._subject, self._heartbeat, self._window = subject, heartbeat * 1000, window
        self._connected_at = now
        self._answer_by = None
        self._refusals = self._tries = 0
        self._line.connected = True
        self._requests.window = message.get("maxUnanswered", 64)
        self._set_state("connected", {"client_id": client_id, "subject": subject, "resumed": resumed})
        if not same:
            self._requests.drop_all("cancelled")
        self._requests.connected(resumed)
        self._subscriptions.connected(client_id, self._resuming, same)
        self._resuming = False
        self._requests.flush()

    def _error(self, now: float, message: JSON) -> None:
        self._subscriptions.error(message)
        if self._subscriptions.again and self._again_at is None:
            self._again_at = now + self._jitter(self._tries)
            self._tries += 1
        if "id" not in message and "channel" not in message:
            self._line.act("warn", f"{message['code']}: {message['message']}")

    def _jitter(self, tries: int) -> float:
        most = self._options["base"] * self._options["factor"] ** min(tries, 30)
        return self._random() * float(min(self._options["cap"], most))

    def _lost(self, now: float, code: int, reason: str) -> None:
        """The socket is gone, and the shell knows it."""
        if self._line.connected and now - self._connected_at >= self._options["useful"]:
            self._failures = 0
        self._away(now)
        self._last = {"code": code, "reason": reason}
        # A token that is always the same one will be refused again.
        if code in FOR_GOOD or 4500 <= code <= 4999 or (code == 4401 and not self._options["ask_token"]):
            self._close(code, reason)
            return
        delay = self._random() * self._window if not self._failures else self._jitter(self._failures - 1)
        if code == 4401:
            delay = self._token_refused(delay)
        self._failures += 1
        self._wait(now + delay)

    def _token_refused(self, delay: float) -> float:
        self._refused = self._token
        self._refusals += 1
        if self._refusals == 2:
            self._line.act("warn", "the server has refused two tokens in a row")
        return delay if self._refusals < 2 else self._options["cap"] * (1 + self._random()) / 2

    def _away(self, now: float) -> None:
        self._line.connected = self._asking = self._resuming = False
        self._answer_by = self._retry_at = self._again_at = None
        self._subscriptions.disconnected()
        self._requests.disconnected(now + (self._session["ttl"] * 1000 if self._session else 0))

    def _close(self, code: int, reason: str) -> None:
        self._away(0)
        self._session, self._subject = None, ...
        self._requests.drop_all("closed")
        self._last = {"code": code, "reason": reason}
        self._set_state("closed", self._last)
        self._subscriptions.end_all({"reason": reason, "code": "closed"})


CLOSED: Final = {"reason": "closed by the application", "code": "closed"}

FIRST: Final = "umbel.v1.first"
PLAIN: Final = "umbel.v1"

FOR_GOOD: Final = frozenset({1000, 1002, 1003, 1007, 1009})
"""Close codes below 4000 after which a client does not come back."""

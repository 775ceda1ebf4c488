"""What is shown of a state: a machine without sockets, clocks and chance.

It has the entries of the server, and the changes of this client on top of them until its position has
reached them. Events go in, each with the time in milliseconds. The JavaScript client has a machine that does
the same; both are tested with `clients/vectors/state`.
"""

import math
from collections.abc import Callable
from typing import Any, Final

from ._machine_line import JSON
from ._shared_changes import ABSENT, Base, Change, Entry, Kind, plain, same


class SharedMachine:
    """One state.

    Attributes:
        actions: what the shell has to do, in order. The shell takes them out.
        shown: what is shown.
    """

    def __init__(self, channel: str, random: Callable[[], float]) -> None:
        self._channel = channel
        self._random = random
        self.actions: list[tuple[Any, ...]] = []
        self.shown: dict[str, Any] = {}
        self._entries: dict[str, Entry] = {}
        self._changes: dict[str, list[Change]] = {}  # in the order of the calls
        self._sent: dict[int, Change] = {}  # without an answer
        self._pausing: dict[int, Change] = {}  # updates that wait before they are tried again
        self._former: set[str] = set()  # epochs of the past
        # Keys of which something else may be shown, and what, if that is known.
        self._touched: dict[str, tuple[Any] | None] = {}
        self._epoch, self._offset, self._top = "", 0, math.inf
        self._past = 0  # conflicts up to here are of the past
        self._loaded = False  # it was whole once: what is changed before waits for that
        self._was_whole = False
        self._end: JSON | None = None  # why nothing more is done
        self._numbers = 0

    @property
    def whole(self) -> bool:
        """All of the state is here, as it is at the position."""
        return self._offset >= self._top

    @property
    def deadline(self) -> float | None:
        """When `tick` is due, if it is."""
        return min((change.at for change in self._pausing.values()), default=None)

    # What the server says

    def begun(self, now: float, detail: JSON) -> None:
        if detail.get("state"):
            position = detail["position"]
            clears = not detail.get("recovered")
            self._place(now, position["epoch"], position["offset"], detail["top"], clears)
        else:
            reason = f'{self._channel} is no channel of mode "state"'
            self.actions.append(("leave", {"code": "not_a_state", "reason": reason}))

    def gap(self, now: float, gap: JSON) -> None:
        clears = gap["reason"] != "turn"
        self._place(now, gap["epoch"], gap["to"], gap.get("top", 0) if clears else self._top, clears)

    def updates(self, now: float, updates: list[Any]) -> None:
        resolved = []
        for update in updates:
            key, self._offset = update.get("key", ""), update["offset"]
            if "conflict" in update and self._offset > self._past:
                resolved.append((key, update["conflict"]))
            if update.get("removed"):
                self._entries.pop(key, None)
            else:
                self._entries[key] = Entry(self._offset, update["data"])
            self._touched[key] = None
            self._top = max(self._top, update.get("top", 0))
        self._moved(now)
        self.actions += [("conflict", *one) for one in resolved]

    def settled(self, now: float, number: int, ok: bool, value: JSON) -> None:
        change = self._sent.pop(number, None)
        if change is None:
            return
        if not change.round:
            change.since = now
        if ok:
            change.state = "confirmed"
            change.epoch, change.offset = value["epoch"], value["offset"]
            change.resolved = value.get("resolved", False)
            self.actions.append(("resolve", number, value))
        elif value["code"] == UNSEEN["code"] and self._may_try_again(now, change):
            self._try_again(now, change, value["details"])
        elif value["code"] == "answer_lost":
            self._remove(change, {**value, "code": "outcome_unknown"})
        else:
            self._remove(change, value)
        self._drop(change.key)
        self._pump(now, change.key)
        self._show()

    def ended(self, now: float, reason: JSON) -> None:
        self._end = self._end or {"code": reason.get("code", "ended"), "message": reason["reason"]}
        for change in [it for those in self._changes.values() for it in those if it.state == "queued"]:
            self._remove(change, self._end)
        self._show()

    def tick(self, now: float) -> None:
        for change in [it for it in self._pausing.values() if it.at <= now]:
            del self._pausing[change.number]
            self._pump(now, change.key)
        self._show()

    # What the application wants

    def call(self, now: float, kind: Kind, key: str, value: Any = None) -> int:
        """Returns the number of the change.

        Raises:
            TypeError: if the value can't be JSON.
        """
        seen = self._value(key) if key in self._touched else self.shown.get(key, ABSENT)
        self._numbers += 1
        change = Change(self._numbers, kind, key, seen)
        if kind == "update":
            change.apply = value
            change.fill(seen)
        elif kind != "delete":
            change.value = plain(value)
        those = self._changes.setdefault(key, [])
        change.before = those[-1] if those else None
        if self._loaded and change.before is None:
            change.base = Base(self._epoch, *self._here(key))
        those.append(change)
        # Nothing below it has changed: many changes of one key would be made again and again.
        self._touched[key] = None if key in self._touched else (change.on(seen),)
        if self._end:
            self._remove(change, self._end)
        self._pump(now, key)
        self._show()
        return change.number

    # Inside

    def _here(self, key: str) -> Entry:
        return self._entries.get(key, NOTHING)

    def _value(self, key: str) -> Any:
        value = self._here(key).value
        for change in self._changes.get(key, ()):
            value = change.on(value)
        return value

    def _place(self, now: float, epoch: str, offset: int, top: float, clears: bool) -> None:
        """The server says where the log is now."""
        if epoch != self._epoch:
            self._former.add(self._epoch)
        self._past = max(self._past, self._offset) if epoch == self._epoch else 0
        if clears:
            self._past = max(self._past, int(top))
        self._epoch, self._offset, self._top = epoch, offset, top
        if clears:
            self._touched |= dict.fromkeys(self._entries)
            self._entries.clear()
        self._moved(now, told=True)

    def _moved(self, now: float, told: bool = False) -> None:
        """The position has moved."""
        self._loaded = self._loaded or self.whole
        for key in list(self._changes):
            self._drop(key, told)
            self._pump(now, key)
        self._show()

    def _drop(self, key: str, told: bool = False) -> None:
        """Remove what was confirmed and is among the entries, or was confirmed before the epoch of now."""
        for change in [it for it in self._changes.get(key, ()) if it.state == "confirmed"]:
            if change.epoch == self._epoch:
                read = self.whole and self._offset >= change.offset
            else:
                read = told or change.epoch in self._former
            if read:
                self._remove(change)

    def _pump(self, now: float, key: str) -> None:
        """Send the next change of a key."""
        while self._loaded and self._end is None:
            those = self._changes.get(key, ())
            change = next((it for it in those if it.state != "confirmed"), None)
            if change is None or change.state == "sent" or change.number in self._pausing:
                return
            if not self._send(now, change):
                return

    def _send(self, now: float, change: Change) -> bool:
        """Send a change, or reject it. Returns whether that was possible."""
        key, before = change.key, change.before
        base = None
        if change.kind != "patch":  # which goes on top of whatever there is
            base = change.base or Base(self._epoch, *self._here(key))
            if before and before.state == "confirmed":
                # What is there now is known when the position has reached it.
                if before.kind == "patch" or before.resolved:
                    return False
                base = Base(before.epoch, 0 if before.value is ABSENT else before.offset, before.value)
            # Its user saw something else, or what has never come to be.
            elif (before and change.kind != "update") and (
                before.state == "failed" or not same(base.value, change.seen)
            ):
                self._remove(change, UNSEEN)
                return True
        change.state, change.before = "sent", None
        if base:
            try:
                change.fill(base.value)
            except Exception as error:
                self._remove(change, error)
                return True
        change.at = now
        self._sent[change.number] = change
        if change.kind == "update":
            self._touched[key] = None
        self.actions.append(("request", change.number, self._message(change, base)))
        return True

    def _message(self, change: Change, base: Base | None) -> JSON:
        kind = "set" if change.kind == "update" else change.kind
        message: JSON = {"type": f"state_{kind}", "channel": self._channel, "key": change.key}
        if kind != "delete":
            message["data"] = change.value
        if base:
            message["ifVersion"] = base.version
            if base.epoch is not None:
                message["epoch"] = base.epoch
        if change.kind == "update":
            message["resolve"] = False  # it sees what there is: nobody else has to decide
        return message

    def _may_try_again(self, now: float, change: Change) -> bool:
        tries = change.kind == "update" and self._end is None
        return tries and change.round + 1 < ROUNDS and now - change.since < PATIENCE

    def _try_again(self, now: float, change: Change, details: JSON) -> None:
        change.state, change.base = "queued", None
        change.round += 1
        # Without data it is what comes with the updates.
        if "data" in details or details.get("removed"):
            change.base = Base(details.get("epoch"), details["version"], details.get("data", ABSENT))
        # Several that count the same number up disturb each other less if they don't come at once.
        longest = min((now - change.at) * min(2**change.round, TIMES), PAUSE)
        change.at = now + self._random() * longest
        self._pausing[change.number] = change

    def _remove(self, change: Change, error: JSON | Exception | None = None) -> None:
        those = self._changes[change.key]
        those.remove(change)
        if not those:
            del self._changes[change.key]
        self._pausing.pop(change.number, None)
        self._touched[change.key] = None
        change.state = "failed" if error else "read"
        if error:
            self.actions.append(("reject", change.number, error))

    def _show(self) -> None:
        """Tell what is shown now."""
        shown = []
        touched, self._touched = self._touched, {}
        for key, known in touched.items():
            value = known[0] if known else self._value(key)
            if same(self.shown.get(key, ABSENT), value):
                continue
            if value is ABSENT:
                del self.shown[key]
                shown.append([key])
            else:
                self.shown[key] = value
                shown.append([key, value])
        if shown or self.whole != self._was_whole:
            self.actions.append(("show", shown))
        self._was_whole = self.whole


NOTHING: Final = Entry()

UNSEEN: Final = {
    "code": "state_conflict",
    "message": "the entry is not what was seen",
    "details": None,
}


ROUNDS: Final = 20
"""An update is tried so often,"""

PATIENCE: Final = 10_000
"""for so many milliseconds after it was refused first."""

TIMES: Final = 16
"""The longest pause before it is tried again, in round trips,"""

PAUSE: Final = 2000
"""and in milliseconds: what was said without a connection took longer."""

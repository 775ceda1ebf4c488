"""The runs of a server: AI responses while they are produced.

A run is a task that produces text, and a channel. The task publishes and never waits for a reader that does
not keep up. So any number of clients may read a run, and a slow one delays no other.
"""

from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Final, NamedTuple

from umbel._clients.client import Client, Message
from umbel._clients.run import Run, announce, begin
from umbel._core import Core, Credit
from umbel._declaring.declarations import StreamRule
from umbel._declaring.settings import Settings

from .caller import Caller
from .jobs import ClientError
from .slots import Slot


@dataclass(slots=True)
class Start:
    """A run whose starter is not subscribed yet. It begins in the context in which it was asked for."""

    run: Run
    slot: Slot
    message: Message
    stream: StreamRule
    context: Context
    credit: Credit | None


class Ended(NamedTuple):
    """A run that has ended: who may read it, until when, and what its channel keeps."""

    until: float
    client_id: str
    subject: str
    kept: int


class Runs:
    """The unfinished runs, and who may read runs.

    A run that has ended stays readable for `RUN_KEPT` seconds, unless there are too many.

    Attributes:
        history_bytes: what the channel of a run keeps at most.
    """

    def __init__(self, caller: Caller, settings: Settings) -> None:
        self.loop = caller.loop
        self.tick = settings.tick
        self.failed = caller.failed
        self.history_bytes = 1 << 20
        self._slots = caller.slots
        self._spawn = caller.spawn
        self._most = settings.max_runs
        self._numbers = count(1)
        self._starting: dict[int, Start] = {}
        self._unfinished: dict[str, tuple[Run, Slot, Credit | None]] = {}  # the credit of the message
        self._owners: dict[Run, str] = {}  # of those that have not ended: their subjects, or clients
        self._counts: dict[str, int] = {}  # how many each of these has
        self._requested: dict[tuple[str, str | int], Run] = {}  # unfinished ones, by client and request
        self._ended: dict[str, Ended] = {}  # the oldest first
        self._kept = 0

    @property
    def count(self) -> int:
        """How many are unfinished."""
        return len(self._owners)

    @property
    def core(self) -> Core:
        """Where runs are published."""
        return self._slots.core

    async def wait_room(self, channel: str) -> None:
        """Wait until little enough waits for the viewers of a run that keep up."""
        await self._slots.rooms.wait(partial(self.core.when_room, channel))

    def start(
        self,
        slot: Slot,
        message: Message,
        message_id: bytes | None,
        stream: StreamRule,
        credit: Credit | None,
    ) -> None:
        """Subscribe the starter of a run. The run begins when that has succeeded, and not otherwise.

        Raises:
            ClientError: if the client, or its identity, has too many runs, or the message has a wrong
                ``conversationId``.
        """
        subject = slot.client.identity.subject
        owner = f"subject {subject}" if subject else f"client {slot.client.id}"
        if self._counts.get(owner, 0) >= self._most:
            whose = "identity" if subject else "client"
            raise ClientError(
                "limit_exceeded",
                f"{self._most} runs of this {whose} are unfinished (max_runs): cancel one, or wait for one",
            )
        run = Run(self, slot.client, message)
        if not is_short(run.conversation_id):
            raise ClientError(
                "bad_message", f"conversationId is a string of at most {LONGEST_ID} bytes, an integer or null"
            )
        number = next(self._numbers)
        if not self.core.subscribe(slot.number, run.channel, message_id, number):
            return
        self._starting[number] = Start(run, slot, message, stream, copy_context(), credit)
        if slot.runs is None:
            slot.runs = {}
        slot.runs[run] = stream.cancel_on_disconnect
        self._owners[run] = owner
        self._counts[owner] = self._counts.get(owner, 0) + 1
        if run.request_id is not None:
            self._requested[run.client.id, run.request_id] = run

    def subscribed(self, number: int, subscribed: bool) -> None:
        """Begin a run whose starter is subscribed. Its client was told if it is not."""
        start = self._starting.pop(number, None)
        if start is None:
            return
        run, slot = start.run, start.slot
        if not subscribed or run.status != "running":
            del slot.runs[run]  # type: ignore[union-attr]
            self._forget(run)
            if subscribed:
                self.core.finish(run.channel)  # it was cancelled, and its readers leave
            else:
                self.core.forget(run.channel)
            return
        if start.credit is not None:
            # It may go on for long, and max_runs bounds runs. They must not keep ai_cancel from being read.
            start.credit.give_place_back()
        self._unfinished[run.id] = run, slot, start.credit
        announce(run)
        begin(run, start.stream.function, start.message, partial(self._spawn, context=start.context))

    def cancel(self, client: Client, message: Message) -> dict[str, bool]:
        """Handle ``ai_cancel``. It is no error that a run has ended or is unknown: the client can't know
        that.

        Raises:
            ClientError: if another client started the run, or the message names no run.
        """
        data = message.data if isinstance(message.data, dict) else {}
        request = message.body.get("request", data.get("request"))
        if isinstance(request, str | int):
            # It may not have begun yet, so that its client does not know the run.
            asked = self._requested.get((client.id, request))
            return {"cancelled": asked is not None and asked.cancel()}
        run_id = message.body.get("runId", data.get("runId"))
        if not isinstance(run_id, str):
            raise ClientError(
                "bad_message", "ai_cancel needs the field runId, a string, or request, the id of a message"
            )
        if run_id not in self._unfinished:
            return {"cancelled": False}
        if not self.may_read(client, run_id):
            raise ClientError("not_allowed", "only the client that started a run may cancel it")
        run, *_ = self._unfinished[run_id]
        return {"cancelled": run.cancel()}

    def may_read(self, client: Client, run_id: str) -> bool:
        """Whether a client started a run, or has the same subject as the client that did."""
        if entry := self._unfinished.get(run_id):
            starter = entry[0].client
            client_id, subject = starter.id, starter.identity.subject
        elif ended := self._ended.get(run_id):
            if ended.until < self.loop.time():
                return False
            client_id, subject = ended.client_id, ended.subject
        else:
            return False
        return client_id == client.id or (bool(subject) and subject == client.identity.subject)

    def ended(self, run: Run) -> None:
        """Called at the end of a run. Its readers leave the channel when they have all of it."""
        _, slot, _ = self._unfinished.pop(run.id)
        if slot.runs:
            del slot.runs[run]
        self._forget(run)
        self.core.finish(run.channel)
        kept = min(run.size, self.history_bytes)
        until = self.loop.time() + RUN_KEPT
        self._ended[run.id] = Ended(until, run.client.id, run.client.identity.subject, kept)
        self._kept += kept
        self._forget_old()

    def client_left(self, slot: Slot) -> None:
        """Cancel the runs that end with their client's connection."""
        for run in [run for run, ends in (slot.runs or {}).items() if ends]:
            run.cancel()

    def stop(self) -> None:
        """Cancel all runs, and forget all that have ended."""
        for run, *_ in list(self._unfinished.values()):
            run.cancel()
        self._starting.clear()
        self._requested.clear()
        self._owners.clear()
        self._counts.clear()
        self._ended.clear()
        self._kept = 0

    def _forget(self, run: Run) -> None:
        """Count a run no longer, if it was counted, and forget which message has asked for it."""
        if owner := self._owners.pop(run, None):
            self._counts[owner] -= 1
            if not self._counts[owner]:
                del self._counts[owner]
        key = (run.client.id, run.request_id or "")
        if self._requested.get(key) is run:
            del self._requested[key]

    def _forget_old(self) -> None:
        now = self.loop.time()
        while self._ended:
            run_id, oldest = next(iter(self._ended.items()))
            if oldest.until >= now and len(self._ended) <= MOST_ENDED and self._kept <= MOST_KEPT:
                return
            del self._ended[run_id]
            self._kept -= oldest.kept
            self.core.forget(f"run:{run_id}")


def is_short(conversation_id: object) -> bool:
    """Whether a ``conversationId`` may be repeated in every chunk."""
    if isinstance(conversation_id, str):
        return len(conversation_id) <= LONGEST_ID and len(conversation_id.encode()) <= LONGEST_ID
    return conversation_id is None or (
        isinstance(conversation_id, int) and not isinstance(conversation_id, bool)
    )


RUN_KEPT: Final = 300.0
"""Seconds after the end of a run for which its starter may read it."""

MOST_ENDED: Final = 1000
"""Runs that have ended and stay readable."""

MOST_KEPT: Final = 64 << 20
"""Bytes that their channels keep together."""

LONGEST_ID: Final = 128
"""Bytes of UTF-8 in a ``conversationId``."""

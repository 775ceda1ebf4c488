"""The runs of a server: AI responses while they are produced.

A run is a task that produces text, and a channel. The task publishes and never waits for a reader. So any
number of clients may read a run, and a slow one delays no other.
"""

import asyncio
from typing import Final

from umbel._clients.client import Client, Message
from umbel._clients.run import Run, announce, begin
from umbel._core import Core
from umbel._declaring.declarations import StreamRule
from umbel._declaring.settings import Settings

from .caller import Caller
from .jobs import Rejected
from .slots import Slot


class Runs:
    """The unfinished runs, and who may read runs. Runs that ended are remembered for `RUN_KEPT` seconds."""

    def __init__(self, caller: Caller, settings: Settings) -> None:
        self.loop = caller.loop
        self.tick = settings.tick
        self.failed = caller.failed
        self._slots = caller.slots
        self._spawn = caller.spawn
        self._most = settings.max_runs
        self._unfinished: dict[str, tuple[Run, Slot]] = {}
        # Number, id and subject of the client that started a run, until RUN_KEPT seconds after its end.
        self._starters: dict[str, tuple[int, str, str]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def core(self) -> Core:
        """Where runs are published."""
        return self._slots.core

    def start(self, slot: Slot, message: Message, message_id: bytes | None, stream: StreamRule) -> None:
        """Start a run: subscribe its starter, publish the start, begin to produce.

        Raises:
            Rejected: if the client has too many runs.
        """
        if len(slot.runs or ()) >= self._most:
            raise Rejected(
                "limit_exceeded",
                f"{self._most} runs of this client are unfinished: wait for one to end, or cancel one",
            )
        run = Run(self, slot.client, message)
        if not self.core.subscribe(slot.number, run.channel, message_id):
            return
        announce(run)
        self._starters[run.id] = slot.number, slot.client.id, slot.client.identity.subject
        self._unfinished[run.id] = run, slot
        if slot.runs is None:
            slot.runs = {}
        slot.runs[run] = stream.cancel_on_disconnect
        begin(run, stream.function, message, self._spawn)

    def cancel(self, client: Client, message: Message) -> dict[str, bool]:
        """Handle ``ai_cancel``. It is no error that a run has ended or is unknown: the client can't know
        that.

        Raises:
            Rejected: if another client started the run, or the message names no run.
        """
        data = message.data if isinstance(message.data, dict) else {}
        run_id = message.body.get("runId", data.get("runId"))
        if not isinstance(run_id, str):
            raise Rejected("bad_message", "ai_cancel needs the field runId, a string")
        if run_id not in self._unfinished:
            return {"cancelled": False}
        if not self.may_read(client, run_id):
            raise Rejected("not_allowed", "only the client that started a run may cancel it")
        run, _ = self._unfinished[run_id]
        return {"cancelled": run.cancel()}

    def may_read(self, client: Client, run_id: str) -> bool:
        """Whether a client started a run, or has the same subject as the client that did."""
        starter = self._starters.get(run_id)
        if starter is None:
            return False
        _, client_id, subject = starter
        return client_id == client.id or (bool(subject) and subject == client.identity.subject)

    def ended(self, run: Run) -> None:
        """Called at the end of a run. Who may read it is remembered for a while."""
        _, slot = self._unfinished.pop(run.id)
        if slot.runs:
            del slot.runs[run]
        self._timers[run.id] = self.loop.call_later(RUN_KEPT, self._forget, run.id)

    def client_left(self, slot: Slot) -> None:
        """Cancel the runs that end with their client's connection."""
        for run in [run for run, ends in (slot.runs or {}).items() if ends]:
            run.cancel()

    def stop(self) -> None:
        """Cancel all runs, and forget all that have ended."""
        for run, _ in list(self._unfinished.values()):
            run.cancel()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._starters.clear()

    def _forget(self, run_id: str) -> None:
        del self._timers[run_id]
        number, _, _ = self._starters.pop(run_id)
        # Otherwise a client that starts many runs would reach its limit of subscriptions.
        self.core.unsubscribe(number, f"run:{run_id}", "run ended")


RUN_KEPT: Final = 300.0
"""Seconds after the end of a run for which its starter may read it and stays subscribed."""

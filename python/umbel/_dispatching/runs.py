"""Runs: AI responses while they are produced.

A run is a producer task and a channel. The producer appends and never waits for a reader, so any number of
viewers may follow, and a slow one slows nobody down.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, final

from orjson import dumps

from umbel._clients.client import Client, Message

from .jobs import ANSWERED, Rejected
from .replies import incident

if TYPE_CHECKING:
    from umbel._declaring.routes import StreamRoute

    from .dispatcher import Dispatcher

logger = logging.getLogger("umbel")


@final
class Run:
    """One AI response being produced. Given to the generator that ``@app.stream`` declared.

    Attributes:
        id: random and unguessable, 128 bits.
        channel: the channel of this run, ``run:<id>``.
        client: who started it. It may have left meanwhile; the run goes on unless the stream says otherwise.
        conversation_id: ``data.conversationId`` of the message that started it; ``None`` without one.
        status: ``running``, ``complete``, ``cancelled`` or ``error``.
    """

    __slots__ = (
        "_due",
        "_pieces",
        "_runs",
        "_task",
        "_timer",
        "_type",
        "channel",
        "client",
        "conversation_id",
        "id",
        "status",
    )

    def __init__(self, runs: Runs, client: Client, message: Message) -> None:
        self.id: Final = secrets.token_hex(16)
        self.channel: Final = f"run:{self.id}"
        self.client: Final = client
        data = message.data
        self.conversation_id: Final[Any] = data.get("conversationId") if isinstance(data, dict) else None
        self.status = "running"
        self._runs = runs
        self._type = message.type
        self._task: asyncio.Task[None] | None = None
        # Pieces wait here for at most one tick, so the bound is what a generator yields in a tick.
        self._pieces: list[str] = []
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def cancel(self) -> bool:
        """End this run now with status ``cancelled``; its generator is cancelled where it waits.

        Returns:
            ``False`` when the run had ended already.
        """
        if self.status != "running":
            return False
        self._end("cancelled")
        if self._task is not None:
            self._task.cancel()
        return True

    def _write(self, piece: str) -> bool:
        """Append a piece of text; says whether a chunk was published.

        The first piece after a quiet tick leaves at once, the following ones leave together when the tick is
        over.
        """
        if not isinstance(piece, str):
            raise TypeError(f"a stream yields str, not {type(piece).__name__}")
        if not piece or self.status != "running":
            return False
        if not piece.isascii():
            piece.encode()  # a surrogate has no encoding: refused here, where it is alone
        self._pieces.append(piece)
        if self._runs.loop.time() >= self._due:
            self._flush()
            return True
        if self._timer is None:
            self._timer = self._runs.loop.call_at(self._due, self._tick)
        return False

    def _tick(self) -> None:
        try:
            self._flush()
        except Exception as error:
            self._fail(error)
            if self._task is not None:
                self._task.cancel()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pieces:
            text = "".join(self._pieces)
            self._pieces.clear()  # before what may fail, so that it fails once
            self._publish("ai_response_chunk", chunk=text)
            self._due = self._runs.loop.time() + self._runs.tick

    def _end(self, status: str, **details: str) -> None:
        """End this run, whatever fails meanwhile. Only the first call counts."""
        if self.status != "running":
            return
        self.status = status
        try:
            self._flush()
        except Exception as error:
            self.status, details = "error", {"incident": self._failed(error)}
        try:
            self._publish("ai_response_end", status=self.status, **details)
        except Exception:
            logger.exception("the end of %r could not be published", self)
        self._runs.ended(self)

    def _fail(self, error: BaseException) -> None:
        """End this run because of an error."""
        number = self._failed(error)
        self._end("error", incident=number)

    def _failed(self, error: BaseException) -> str:
        """Put an error into the log, and return the incident that tells viewers which."""
        number = incident()
        logger.error("stream %r failed for %r (incident %s)", self._type, self.client, number, exc_info=error)
        if isinstance(error, KeyboardInterrupt):
            self._runs.interrupt()
        return number

    def _publish(self, message_type: str, **fields: str) -> None:
        body = {"type": message_type, "conversationId": self.conversation_id, "runId": self.id, **fields}
        self._runs.core.publish(self.channel, dumps(body))

    def __repr__(self) -> str:
        return f"<Run {self.id} {self.status}>"


class Runs:
    """The runs of one server: those that go on, and who may see those that ended lately."""

    def __init__(self, dispatcher: Dispatcher, tick: float, most: int) -> None:
        self.core = dispatcher.core
        self.loop = dispatcher.loop
        self.interrupt = dispatcher.interrupt
        self.tick = tick
        self._dispatcher = dispatcher
        self._most = most
        self._running: dict[str, Run] = {}
        self._counts: dict[int, int] = {}
        self._leaving: dict[int, set[Run]] = {}
        # Key and subject of who started a run, until RUN_KEPT seconds after its end.
        self._owners: dict[str, tuple[int, str]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def start(self, client: Client, message: Message, route: StreamRoute) -> object:
        """Start a run: subscribe its starter, publish the start, begin to produce.

        Raises:
            Rejected: if the client has too many runs.
        """
        key = client._key
        if self._counts.get(key, 0) >= self._most:
            raise Rejected(
                "limit_exceeded",
                f"{self._most} runs of this client are unfinished; wait for one or cancel it",
            )
        run = Run(self, client, message)
        if not self.core.subscribe(key, run.channel, message._request):
            return ANSWERED
        run._publish("ai_response_start")
        self._owners[run.id] = key, client.identity.subject
        self._running[run.id] = run
        self._counts[key] = self._counts.get(key, 0) + 1
        if route.cancel_on_disconnect:
            self._leaving.setdefault(key, set()).add(run)
        run._task = self._dispatcher.spawn(produce(run, route, message))
        return ANSWERED

    def cancel(self, client: Client, message: Message) -> dict[str, bool]:
        """Answer ``ai_cancel``. A run that has ended, or never was, is no error: the client can't know
        better.

        Raises:
            Rejected: if somebody else started the run, or no run is named.
        """
        data = message.data if isinstance(message.data, dict) else {}
        run_id = message.body.get("runId", data.get("runId"))
        if not isinstance(run_id, str):
            raise Rejected("bad_message", "ai_cancel needs the field runId, a string")
        run = self._running.get(run_id)
        if run is None:
            return {"cancelled": False}
        if not self.owned(run_id, client):
            raise Rejected("not_allowed", "only who started a run may cancel it")
        return {"cancelled": run.cancel()}

    def owned(self, run_id: str, client: Client) -> bool:
        """Say whether a client started a run, on this connection or on another of the same subject."""
        owner = self._owners.get(run_id)
        if owner is None:
            return False
        key, subject = owner
        return key == client._key or (bool(subject) and subject == client.identity.subject)

    def ended(self, run: Run) -> None:
        """Forget a run, but not yet who may read it."""
        key = run.client._key
        del self._running[run.id]
        count = self._counts[key] - 1
        if count:
            self._counts[key] = count
        else:
            del self._counts[key]
        if leaving := self._leaving.get(key):
            leaving.discard(run)
            if not leaving:
                del self._leaving[key]
        self._timers[run.id] = self.loop.call_later(RUN_KEPT, self._forget, run.id)

    def client_left(self, client: Client) -> None:
        """Cancel the runs that shall not outlive their client's connection."""
        for run in list(self._leaving.get(client._key, ())):
            run.cancel()

    def stop(self) -> None:
        """Cancel all runs, and forget all that have ended."""
        for run in list(self._running.values()):
            run.cancel()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._owners.clear()

    def _forget(self, run_id: str) -> None:
        del self._timers[run_id]
        key, _ = self._owners.pop(run_id)
        # Else a client that asks often would meet its limit of subscriptions.
        self.core.unsubscribe(key, f"run:{run_id}", "run ended")


async def produce(run: Run, route: StreamRoute, message: Message) -> None:
    """Consume the application's generator until it ends, fails or is cancelled."""
    generator: AsyncIterator[str] | None = None
    try:
        generator = route.function(run, message)
        async for piece in generator:
            if run._write(piece):
                await asyncio.sleep(0)  # a generator that never waits must not hold up the loop
            if run.status != "running":
                break
        run._end("complete")
    except GeneratorExit:
        raise
    except asyncio.CancelledError:
        run._end("cancelled")
    except BaseException as error:
        run._fail(error)
    finally:
        close = getattr(generator, "aclose", None)
        if close is not None:
            try:
                await close()
            except (GeneratorExit, asyncio.CancelledError):
                pass  # nothing is left to end
            except BaseException as error:
                run._failed(error)


RUN_KEPT: Final = 300.0
"""Seconds after its end for which a run may be read by who started it, and the starter stays subscribed."""

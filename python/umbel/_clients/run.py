"""One AI response while it is produced."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, Protocol, final

from orjson import dumps

from umbel._core import Core

from .client import Client, Message

logger = logging.getLogger("umbel")


class RunPort(Protocol):
    """What a run needs of its server."""

    loop: asyncio.AbstractEventLoop
    tick: float

    @property
    def core(self) -> Core:
        """Where chunks are published."""

    def ended(self, run: "Run") -> None:
        """Called once, after the end of a run was published."""

    def failed(self, error: BaseException, text: str, *values: object) -> str:
        """Log an error of the application, and return the incident under which it is in the log."""


@final
class Run:
    """One AI response that is being produced. The generator that ``@app.stream`` declared gets it.

    Use it on the event loop only. Another thread calls ``loop.call_soon_threadsafe(run.cancel)``.

    Attributes:
        id: random and unguessable, 128 bits.
        channel: the channel of this run, ``run:<id>``.
        client: the client that started the run. It may have left; the run goes on unless the stream was
            declared with ``cancel_on_disconnect=True``.
        conversation_id: ``data.conversationId`` of the message that started the run; ``None`` without one.
        status: ``running``, ``complete``, ``cancelled`` or ``error``.
    """

    def __init__(self, port: RunPort, client: Client, message: Message) -> None:
        self.id: Final = secrets.token_hex(16)
        self.channel: Final = f"run:{self.id}"
        self.client: Final = client
        data = message.data
        self.conversation_id: Final[Any] = data.get("conversationId") if isinstance(data, dict) else None
        self.status = "running"
        self._port = port
        self._type = message.type
        self._task: asyncio.Task[None] | None = None
        # Pieces wait here for at most one tick, so the bound is what a generator yields in a tick.
        self._pieces: list[str] = []
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def cancel(self) -> bool:
        """End this run now with status ``cancelled``. Its generator is cancelled where it waits.

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
        """Append a piece of text; returns whether a chunk was published.

        The first piece after a quiet tick is published at once. Pieces that follow are published together
        when the tick is over.
        """
        if not isinstance(piece, str):
            raise TypeError(f"a stream yields str, not {type(piece).__name__}")
        if not piece or self.status != "running":
            return False
        if not piece.isascii():
            piece.encode()  # a surrogate has no encoding: refused here, where it is alone
        self._pieces.append(piece)
        if self._port.loop.time() >= self._due:
            self._flush()
            return True
        if self._timer is None:
            self._timer = self._port.loop.call_at(self._due, self._tick)
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
            self._due = self._port.loop.time() + self._port.tick

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
        self._port.ended(self)

    def _fail(self, error: BaseException) -> None:
        """End this run because of an error."""
        self._end("error", incident=self._failed(error))

    def _failed(self, error: BaseException) -> str:
        return self._port.failed(error, "stream %r failed for %r", self._type, self.client)

    def _publish(self, message_type: str, **fields: str) -> None:
        body = {"type": message_type, "conversationId": self.conversation_id, "runId": self.id, **fields}
        self._port.core.publish(self.channel, dumps(body))

    def __repr__(self) -> str:
        return f"<Run {self.id} {self.status}>"


def announce(run: Run) -> None:
    """Publish the start of a run."""
    run._publish("ai_response_start")


def begin(
    run: Run,
    stream: Callable[[Run, Message], AsyncIterator[str]],
    message: Message,
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
) -> None:
    """Start the task that produces a run."""
    run._task = spawn(produce(run, stream, message))


async def produce(run: Run, stream: Callable[[Run, Message], AsyncIterator[str]], message: Message) -> None:
    """Consume the application's generator until it ends, fails or is cancelled."""
    generator: AsyncIterator[str] | None = None
    try:
        generator = stream(run, message)
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

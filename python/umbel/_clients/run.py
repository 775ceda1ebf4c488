"""One AI response while it is produced."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Final, Protocol, final

from umbel._core import Core, Receipt
from umbel._json import encode

from .client import Client, Message

logger = logging.getLogger("umbel")


class RunPort(Protocol):
    """What a run needs of its server."""

    loop: asyncio.AbstractEventLoop
    tick: float

    @property
    def core(self) -> Core:
        """Where chunks are published."""

    async def wait_room(self, channel: str) -> None:
        """Wait until little enough waits for the viewers of a run that keep up."""

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
        request_id: the ``id`` of the message that started the run; ``None`` without one.
        conversation_id: ``data.conversationId`` of the message that started the run; ``None`` without one.
        status: ``running``, ``complete``, ``cancelled`` or ``error``.
    """

    def __init__(self, port: RunPort, client: Client, message: Message) -> None:
        self.id: Final = secrets.token_hex(16)
        self.channel: Final = f"run:{self.id}"
        self.client: Final = client
        self.request_id: Final[str | int | None] = message.body.get("id")
        data = message.data
        self.conversation_id: Final[Any] = data.get("conversationId") if isinstance(data, dict) else None
        self.status = "running"
        self.size = 0  # bytes that were published
        self._port = port
        self._type = message.type
        self._task: asyncio.Task[None] | None = None
        # Pieces wait here for at most one tick, and until they are a chunk.
        self._pieces: list[str] = []
        self._bytes = 0  # of these pieces, at most
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def cancel(self) -> bool:
        """End this run now with status ``cancelled``. Its generator is cancelled where it waits.

        Returns:
            ``False`` when the run had ended already.
        """
        if self.status != "running":
            return False
        if self._task is None:  # it has not begun, and will not
            self.status = "cancelled"
            return True
        self._end("cancelled")
        self._task.cancel()
        return True

    def publish(self, data: Any) -> Receipt | None:
        """Publish data to the viewers of this run, after the text that was yielded before.

        Args:
            data: as in `Umbel.publish`.

        Returns:
            A receipt, or ``None`` when the run has ended: nothing comes after ``ai_response_end``.

        Raises:
            TypeError: if the data can't be encoded as JSON.
            ValueError: as there.
        """
        text = encode(data)
        if self.status != "running":
            return None
        self._flush()
        self.size += len(text)
        return self._port.core.publish(self.channel, text)

    def _write(self, piece: str) -> bool:
        """Append a piece of text; returns whether a chunk was published.

        The first piece after a quiet tick is published at once. Pieces that follow are published together
        when the tick is over, or when they are a chunk.
        """
        if not isinstance(piece, str):
            raise TypeError(f"a stream yields str, not {type(piece).__name__}")
        if not piece or self.status != "running":
            return False
        # A surrogate has no encoding: refused here, where it is alone.
        size = len(piece) if piece.isascii() else len(piece.encode())
        if published := self._bytes + size > CHUNK_BYTES:
            self._flush()
        self._pieces.append(piece)
        self._bytes += size
        if self._bytes >= CHUNK_BYTES or self._port.loop.time() >= self._due:
            self._flush()
            return True
        if self._timer is None:
            self._timer = self._port.loop.call_at(self._due, self._tick)
        return published

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
            self._bytes = 0
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
        text = encode(body)
        self.size += len(text)
        self._port.core.publish(self.channel, text)

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
            for portion in portions(piece):
                if run._write(portion):
                    await asyncio.sleep(0)  # a generator that never waits must not hold up the loop
                    await run._port.wait_room(run.channel)
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


def portions(piece: Any) -> Iterator[Any]:
    """Cut a long text into pieces of a chunk each. What is no text is left to ``_write`` to refuse."""
    if not isinstance(piece, str) or len(piece) <= CHUNK_BYTES // 4:
        yield piece
        return
    size = CHUNK_BYTES if piece.isascii() else CHUNK_BYTES // 4  # UTF-8 has at most four bytes a character
    for start in range(0, len(piece), size):
        yield piece[start : start + size]


CHUNK_BYTES: Final = 32 * 1024
"""Bytes of UTF-8 in the text of one chunk. So viewers that are behind get a long text in portions."""

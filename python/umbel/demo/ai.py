"""Where the answers of the demo come from: a model behind an OpenAI-compatible endpoint, or built-in text.

``OPENAI_BASE_URL`` names the endpoint (``http://127.0.0.1:11434/v1``), ``OPENAI_MODEL`` the model,
``OPENAI_API_KEY`` the key if it wants one. Without the first, nothing leaves this machine.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit


class EndpointError(Exception):
    """The endpoint gave no answer; the message says why."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible endpoint."""

    url: str
    model: str
    key: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Endpoint | None:
        """Read the environment; ``None`` where it names no endpoint."""
        url = environment.get("OPENAI_BASE_URL", "").strip().rstrip("/")
        if not url:
            return None
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ValueError(f"OPENAI_BASE_URL={url!r} is no address: write it as http://127.0.0.1:11434/v1")
        return cls(url, environment.get("OPENAI_MODEL", "default"), environment.get("OPENAI_API_KEY", ""))

    def open(self, prompt: str) -> http.client.HTTPResponse:
        """Ask, and return the response whose body is the stream. Blocks.

        Raises:
            EndpointError: if the endpoint answers with anything but a stream.
            OSError: if it can't be reached.
        """
        address = urlsplit(self.url)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        connection = kind(address.hostname or "", address.port, timeout=TIMEOUT)
        body = {
            "model": self.model,
            "stream": True,
            "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}],
        }
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        connection.request("POST", f"{address.path}/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200:
            said = " ".join(response.read(2000).decode(errors="replace").split())[:300]
            response.close()
            raise EndpointError(f"the endpoint answered {response.status} {response.reason}: {said}")
        return response


class Stream:
    """The answer of an endpoint, read by a thread of its own because the standard library's client blocks."""

    def __init__(self, endpoint: Endpoint, prompt: str) -> None:
        self._endpoint = endpoint
        self._prompt = prompt
        self._loop = asyncio.get_running_loop()
        # Bound: LONGEST characters, after which the thread ends.
        self._pieces: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        self._cancelled = threading.Event()

    async def pieces(self) -> AsyncIterator[str]:
        """Give the text as it comes.

        Raises:
            EndpointError: if there is no answer, or it breaks off.
        """
        threading.Thread(target=self._run, name="umbel-demo-answer", daemon=True).start()
        try:
            while (piece := await self._pieces.get()) is not None:
                if isinstance(piece, Exception):
                    raise EndpointError(f"{piece}") from piece
                yield piece
        finally:
            self._cancelled.set()

    def _run(self) -> None:
        end: Exception | None = None
        try:
            with self._endpoint.open(self._prompt) as response:
                length = 0
                for piece in deltas(response):
                    length += len(piece)
                    if self._cancelled.is_set() or length > LONGEST:
                        break
                    self._put(piece)
        except (EndpointError, OSError, http.client.HTTPException, ValueError) as error:
            end = error
        self._put(end)

    def _put(self, piece: str | Exception | None) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)


def deltas(lines: Iterable[bytes]) -> Iterator[str]:
    """Read the pieces of text in a stream of server-sent events.

    Raises:
        EndpointError: if the endpoint reports an error in the stream.
        ValueError: if an event is not JSON.
    """
    for line in lines:
        if not line.startswith(b"data:"):
            continue
        text = line[5:].strip()
        if text == b"[DONE]":
            return
        event: Any = json.loads(text)
        if not isinstance(event, dict):
            continue
        if "error" in event:
            raise EndpointError(f"the endpoint reports: {json.dumps(event['error'])[:300]}")
        for choice in event.get("choices") or ():
            if piece := (choice.get("delta") or {}).get("content"):
                yield str(piece)


async def built_in(prompt: str) -> AsyncIterator[str]:
    """Answer without a model, word by word, at about the pace of one."""
    for word in re.findall(r"\S+\s*", explain(prompt)):
        yield word
        await asyncio.sleep(WORD)


def explain(prompt: str) -> str:
    """Choose the passages whose words stand in the question."""
    words = set(re.findall(r"[a-z]+", prompt.lower()))
    scores = {topic: len(words & set(keys.split())) for topic, (keys, _) in TOPICS.items()}
    chosen = sorted((topic for topic in TOPICS if scores[topic]), key=lambda topic: -scores[topic])[:2]
    if not chosen:
        chosen = ["idea"]
    known = ", ".join(topic for topic in TOPICS if topic not in chosen)
    return "\n\n".join([NO_MODEL, *(TOPICS[topic][1] for topic in chosen), f"Ask also about: {known}."])


NO_MODEL: Final = (
    "This is built-in text, not a model: it looks for words of your question and recites what it has. "
    "Set OPENAI_BASE_URL and start the demo again for real answers. "
    "What you see stream is real: it is a run, published to your own channel."
)

TOPICS: Final = {
    "idea": (
        "umbel idea what why how work works does hello hi help",
        "Umbel has one idea: a channel is a log, and a subscriber is a cursor in it. Nobody has a queue. "
        "A flush reads the log from the cursor to the head and writes one frame, so whatever was published "
        "since the last flush is the batch.",
    ),
    "cursors": (
        "cursor cursors position offset epoch log logs channel channels",
        "A cursor is the position up to which one subscriber has been served: an epoch, which names this "
        "life of the log, and an offset in it. The page checks that every update follows the one before; the "
        "count of violations should stay at zero.",
    ),
    "batches": (
        "batch batches batching tick frame frames window millisecond latency late lateness fast",
        "The first publication after a quiet moment leaves at once. Those that follow leave together when "
        "the tick of 16 ms is over. So at one update a second a frame carries one update, and at 2,000 a "
        "second about 32, for the same number of writes. Move the slider and watch the bars grow.",
    ),
    "slow readers": (
        "slow reader readers behind backpressure pressure gap gaps lost loss lose blocked memory",
        "A socket that takes nothing is skipped, and its cursor stays where it is. That costs no memory, "
        "because the log is shared. When the log has moved past a cursor, the reader gets a gap with exact "
        "offsets. Nothing is ever lost without a word.",
    ),
    "latest": (
        "latest conflation conflate fold folded key keys newest fresh from range",
        "In a channel declared latest, a publication has a key, and a reader that is behind gets the newest "
        "of each key only. Such an update says which range of offsets it stands for. Processor and network "
        "on this page work like that, so they stay fresh even while the page reads slowly.",
    ),
    "the crowd": (
        "crowd thousand subscribers subscriber fan fanout connections scale many delivered deliver",
        "Each press adds a process with a thousand connections, subscribed to the same channels as this "
        "page. They stand at the same position, so one frame is made and compressed once and then written a "
        "thousand times. Publishing costs the same with none of them or ten thousand.",
    ),
    "answers": (
        "ai answer answers run runs stream streams streaming token tokens model chat cancel stop",
        "An answer is a run: a producer that appends to a channel. Any number of viewers may read it, a slow "
        "viewer slows nobody down, and it goes on when you disconnect. The first chunk leaves at once, later "
        "ones are gathered per tick.",
    ),
    "recovery": (
        "recover recovery reconnect reconnects resume drop drops restart disconnect again back",
        "A client that comes back names its position in each channel and gets the rest from the log, in "
        "order, nothing twice. Where the log has moved on, it is told so. This page does that each time you "
        "switch it to slow and back.",
    ),
}
"""Passages, and the words of a question that call for them."""

SYSTEM: Final = (
    "You answer on the demo page of Umbel, a real-time server for Python with a Rust core. "
    "Answer briefly, in plain text without markup."
)

WORD: Final = 0.035
"""Seconds per word: about the pace of a hosted model."""

TIMEOUT: Final = 60.0
"""Seconds without a byte from the endpoint."""

LONGEST: Final = 1 << 16
"""Characters of one answer."""

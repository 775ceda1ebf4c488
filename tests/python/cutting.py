"""The client machine on session streams that are cut anywhere: requests are lost, repeated, and late."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import random
from collections import Counter, deque
from collections.abc import Coroutine
from typing import Any

import orjson
from calling import program
from coming_back import FIRST
from streams import Parser
from talking import JSON, SESSION, post
from test_stream_cuts import Body
from umbel import Server
from umbel.client._machine import Machine
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

OPTIONS = {"base": 20, "cap": 100, "attempts": 1000, "attempts_in": 1000, "attempt_timeout": 5000}


class Carrier:
    """What carries one attempt of the machine to its end."""

    def __init__(self, shell: Shell, attempt: int) -> None:
        self.shell, self.attempt = shell, attempt
        self.first = ""
        self.queue: deque[str] = deque()
        self.token = ""
        self.accepted = self.number = self.part = 0
        self.version = shell.choice.choice(["1.1", "1.1", "1.0"])
        self.socket: Any = None
        self.is_open = False
        self.something = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    def send(self, text: str) -> None:
        if self.first:
            self.queue.append(text)
            self.something.set()
            return
        self.first = text
        choice = self.shell.choice
        if choice.random() < self.shell.sockets:
            self.tasks.append(self.shell.start(self.converse()))
        else:
            if choice.random() < 0.4:
                self.part = 1
            self.tasks += [self.shell.start(self.listen()), self.shell.start(self.speak())]

    def leave(self) -> None:
        """The machine wants to hear no more of it."""
        self.shell.carriers.pop(self.attempt, None)
        for task in self.tasks:
            if task is not asyncio.current_task():
                task.cancel()

    def over(self, code: int) -> None:
        if self.attempt in self.shell.carriers:
            self.leave()
            self.shell.machine.closed(self.shell.now(), self.attempt, code, "")
            self.shell.act()

    def hear(self, text: str) -> None:
        message = orjson.loads(text)
        if message["type"] == "connection_established":
            assert not self.is_open
            self.token = message["session"]["token"]
            self.accepted = orjson.loads(self.first)["attempt"] if message.get("resumed") else 0
            self.is_open = True
            self.something.set()
        self.shell.machine.received(self.shell.now(), self.attempt, text)
        self.shell.act()

    # A WebSocket

    async def converse(self) -> None:
        url = self.shell.server.url.replace("http", "ws", 1) + "/ws"
        code = 1006
        with contextlib.suppress(OSError, WebSocketException, TimeoutError):
            async with connect(url, proxy=None, subprotocols=FIRST) as self.socket:
                try:
                    await self.socket.send(self.first)
                    async with asyncio.timeout(self.shell.time_of_one()):
                        async for text in self.socket:
                            self.hear(text)
                            while self.queue and self.is_open:
                                await self.socket.send(self.queue.popleft())
                finally:
                    self.shell.seen["sockets"] += 1
                    self.socket.transport.abort()
                code = self.socket.close_code or code
        self.over(code)

    # A stream

    async def listen(self) -> None:
        code = 1006
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            first = orjson.loads(self.first)
            while True:
                body = {**first, "part": self.part} if self.part else first
                code = await self.read(orjson.dumps(body))
                if code:
                    break
                self.part += 1
                self.shell.seen["parts"] += 1
                first = {"type": "resume", "session": self.token, "attempt": self.accepted, "positions": {}}
        self.over(code or 1006)

    async def read(self, body: bytes) -> int:
        """Read a response up to some byte. Returns the close code, or 0 at the end of a part."""
        shell = self.shell
        host, _, port = shell.server.url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            lines = [f"POST {SESSION} HTTP/{self.version}", "Host: localhost", f"Content-Length: {len(body)}"]
            lines += [f"{name}: {value}" for name, value in JSON.items()]
            if shell.late_ones(body):
                delay = shell.choice.choice([0, 0, 0.05])
                asyncio.get_running_loop().call_later(delay, shell.say_again, body)
                await asyncio.sleep(shell.choice.choice([0, 0.01]))
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            async with asyncio.timeout(shell.time_of_one()):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                if " 409 " in head:
                    length = int(head.lower().partition("content-length: ")[2].split("\r\n")[0])
                    newest = orjson.loads(await reader.readexactly(length))["details"]["attempt"]
                    shell.seen["409"] += 1
                    return 4502 if newest > max(self.accepted, orjson.loads(body)["attempt"]) else 1006
                assert " 200 " in head, head
                return await self.read_events(reader, Body(self.version == "1.1"))
        finally:
            writer.transport.abort()

    async def read_events(self, reader: asyncio.StreamReader, body: Body) -> int:
        wanted, taken, parser = self.shell.bytes_of_one(), 0, Parser()
        decoder = codecs.getincrementaldecoder("utf-8")()
        while taken < wanted and (data := await reader.read(min(4096, wanted - taken))):
            taken += len(data)
            for event in parser.feed(decoder.decode(body.feed(data))):
                assert event.id is None
                if event.name == "closed":
                    return int(event.data["code"])
                if event.name == "part_ended":
                    return 0
                self.hear(orjson.dumps(event.data).decode())
        return 1006

    async def speak(self) -> None:
        while True:
            await self.something.wait()
            self.something.clear()
            while self.is_open and self.queue:
                size = self.shell.choice.randrange(1, 9)
                texts = [self.queue.popleft() for _ in range(min(size, len(self.queue)))]
                self.number += 1
                start = f'{{"attempt":{self.accepted},"number":{self.number},"messages":['
                if not await self.deliver(f"{start}{','.join(texts)}]}}".encode()):
                    return

    async def deliver(self, body: bytes) -> bool:
        """Post a list until there is an answer. Returns whether the stream goes on."""
        shell = self.shell
        if shell.late_ones(body):
            shell.late.append((self.token, body))
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                async with program(shell.server) as caller:
                    if shell.is_bad() and shell.choice.random() < 0.3:
                        await self.break_off(caller, body)
                        continue
                    if shell.is_bad() and shell.choice.random() < 0.2:
                        shell.say_again(body, self.token)
                    answer = await asyncio.wait_for(post(caller, self.token, body), 5)
                    shell.seen[f"list {answer.status}"] += 1
                    if answer.status == 202:
                        return True
                    if answer.status == 503:
                        await asyncio.sleep(0.01)
                        continue
                    assert answer.body["code"] in ("superseded", "session_lost"), answer
                    ours = answer.body.get("details", {}).get("attempt", 0) <= self.accepted
                    self.over(1006 if ours else 4502)
                    return False

    async def break_off(self, caller: Any, body: bytes) -> None:
        """Send a list, or the beginning of one, and hear nothing."""
        length = {**JSON, "Content-Length": str(len(body)), "Authorization": f"Umbel-Session {self.token}"}
        part = (
            body[: self.shell.choice.randrange(len(body) + 1)] if self.shell.choice.random() < 0.5 else body
        )
        caller.send(f"POST {SESSION}/messages", length, part)
        await asyncio.sleep(self.shell.choice.choice([0, 0.005]))
        caller.writer.transport.abort()
        self.shell.seen["lists broken off"] += 1


class Shell:
    """Runs a machine on a network that is bad until it is `good`. Its owner judges what it is `told`."""

    def __init__(self, server: Server, choice: random.Random, sockets: float) -> None:
        self.server, self.choice, self.sockets = server, choice, sockets
        self.machine = Machine(OPTIONS, choice.random)
        self.carriers: dict[int, Carrier] = {}
        self.told: list[tuple[Any, ...]] = []
        self.good = False
        self.late: list[tuple[str, bytes]] = []
        self.seen: Counter[str] = Counter()
        self.tasks: set[asyncio.Task[None]] = set()
        self.failures: list[BaseException] = []

    def now(self) -> float:
        return asyncio.get_running_loop().time() * 1000

    def is_bad(self) -> bool:
        return not self.good

    def time_of_one(self) -> float:
        return 60 if self.good else self.choice.choice([0.05, 0.3, 1])

    def bytes_of_one(self) -> int:
        return (
            1 << 40
            if self.good
            else self.choice.choice([100, 600, 2000, 10_000]) + self.choice.randrange(400)
        )

    def late_ones(self, body: bytes) -> bool:
        """Whether somebody keeps this request, and sends it again later."""
        return self.is_bad() and b'"authenticate"' not in body and self.choice.random() < 0.3

    def say_again(self, body: bytes, token: str = "") -> None:
        """Send a request again, whose answer nobody hears."""

        async def again() -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                async with program(self.server) as caller:
                    if token:
                        await post(caller, token, body)
                    else:
                        caller.send(f"POST {SESSION}", {**JSON, "Content-Length": str(len(body))}, body)
                        await asyncio.wait_for(caller.reader.read(100), 1)
            self.seen["again"] += 1

        self.start(again())

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.done)
        return task

    def done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.failures.append(error)

    async def leave(self) -> None:
        """Break off everything."""
        for task in self.tasks:
            task.cancel()
        while self.tasks:
            await asyncio.sleep(0.01)

    def act(self) -> None:
        while self.machine.actions:
            actions = list(self.machine.actions)
            self.machine.actions.clear()
            for name, *rest in actions:
                self.do(name, *rest)

    def do(self, name: str, *rest: Any) -> None:
        match name:
            case "open":
                (attempt,) = rest
                self.carriers[attempt] = Carrier(self, attempt)
                self.machine.opened(self.now(), attempt, "umbel.v1.first")
            case "send":
                if carrier := self.carriers.get(rest[0]):
                    carrier.send(rest[1])
            case "drop":
                if carrier := self.carriers.get(rest[0]):
                    carrier.leave()
            case _:
                self.told.append((name, *rest))

    async def tick(self) -> None:
        """Keeps the machine's clock going."""
        while True:
            await asyncio.sleep(0.01)
            deadline = self.machine.deadline
            if deadline is not None and self.now() >= deadline:
                self.machine.tick(self.now())
                self.act()

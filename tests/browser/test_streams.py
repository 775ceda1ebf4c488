"""Chromium's own EventSource: cut again and again, many of them over HTTP/2, and streams that are over."""

from __future__ import annotations

import asyncio
import os
import pathlib
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson
import pytest
from chromium import Browser
from serving import ROOT
from stream_judge import Judge
from streams import PATH, Event, stream
from test_jwt import secret
from tokens import token
from umbel import Client, Identity, Run, Umbel
from wire import wire

sys.path.append(str(pathlib.Path(__file__).parents[1] / "interop"))

from proxy import nginx

CUTS = int(os.environ.get("STREAM_CUTS", "200"))
"""`make soak` has more."""

pytestmark = pytest.mark.timeout(180 + CUTS)

MARKER = "that was all"


class Scissors:
    """A proxy that cuts responses after some bytes or some time, until there were enough cuts.

    Heads it lets through: Chromium takes one that is cut off for a whole one, whose type it does not know.
    """

    def __init__(self, upstream: tuple[str, int], random: random.Random) -> None:
        self.upstream, self.random = upstream, random
        self.cuts = 0
        self._serving = set[asyncio.Task[None]]()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, sender = await asyncio.open_connection(*self.upstream)
        try:
            sender.write(await reader.readuntil(b"\r\n\r\n"))
            writer.write(await upstream.readuntil(b"\r\n\r\n"))
            if self.cuts >= CUTS:
                while part := await upstream.read(65536):
                    writer.write(part)
            left = self.random.choice([0, 300, 2000, 20_000]) + self.random.randrange(600)
            async with asyncio.timeout(self.random.uniform(0.05, 0.6)):
                while left > 0 and (part := await upstream.read(left)):
                    writer.write(part)
                    await writer.drain()
                    left -= len(part)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.cuts += 1
            writer.close()
            sender.transport.abort()


def judge(heard: list[list[str]], channels: set[str], published: dict[str, list[bytes]]) -> Counter[str]:
    """Judge what one EventSource heard, all its connections in a row."""
    judge, last, new = Judge(published), "", set[str]()
    for name, last_id, text in heard:
        if name == "connected":
            # Its request had the id of the last event, if there was one.
            new = set() if last else channels
        if name != "error":
            judge.hear(Event(name, last_id, orjson.loads(text)), new)
            last = last_id
    return judge.seen + Counter(name for name, *_ in heard)


@pytest.mark.parametrize("with_tickets", [False, True])
async def test_event_sources_that_are_cut_anywhere_join_to_what_was_published(
    browser: Browser, with_tickets: bool
) -> None:
    app = Umbel(port=0, origins="*", reconnect_window=0, burst_bytes=0, tick=0.005)
    if with_tickets:
        app.authenticate(lambda request: None)  # others than those with tickets are not let in
    channels = {"a", "b", "c"}
    published: dict[str, list[bytes]] = {channel: [] for channel in channels}
    choice = random.Random(5)
    for channel in channels:
        app.channel(channel, open=True, history=60 if channel == "c" else 5000)

    def publish(channel: str, text: str) -> None:
        published[channel].append(text.encode())
        app.publish(channel, text)

    async with app.serve() as server, AsyncExitStack() as stack:
        upstream = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        scissors = [Scissors(upstream, random.Random(number)) for number in range(4)]
        origins = [await stack.enter_async_context(each.open()) for each in scissors]
        queries = [["a"], ["b"], ["c", "a"], ["b", "a", "c"], ["c"]]
        wanted = [(origin, query) for origin in origins for query in queries]
        urls = [origin + f"{PATH}?" + "&".join(f"channel={c}" for c in query) for origin, query in wanted]
        if with_tickets:
            urls = [url + "&ticket=" + app.ticket(Identity(f"user {n}")) for n, url in enumerate(urls)]

        async def keep_publishing() -> None:
            while sum(each.cuts for each in scissors) < CUTS:
                for _ in range(choice.randrange(8)):
                    publish(
                        choice.choice("abc"),
                        choice.choice(["é", "\n", "id: 1\r", "x"]) * choice.randrange(99),
                    )
                await asyncio.sleep(0.01)
            for each in scissors:
                each.cuts = CUTS
            await asyncio.sleep(1.5)  # all are back
            for channel in channels:
                publish(channel, MARKER)

        publishing = asyncio.create_task(keep_publishing())
        page = server.url + "/healthz"
        found = await asyncio.to_thread(browser, "follow", page, page=page, urls=urls, marker=MARKER)
        await publishing
    total = Counter[str]()
    for (_, query), source in zip(wanted, found["streams"], strict=True):
        assert source["heard"][-1][2].count(MARKER), source["heard"][-3:]
        total += judge(source["heard"], set(query), published)
    assert total["error"] >= CUTS - len(urls) and total["recovered True"] >= CUTS / 2, total
    assert total["update"] > 1000 and total["trimmed"] > 0, total


async def test_an_event_source_whose_ticket_others_have_ends_and_says_so_to_its_page(
    browser: Browser,
) -> None:
    app = Umbel(port=0, reconnect_window=0)
    app.channel("a", open=True)
    app.authenticate(lambda request: None)
    seen: list[str] = []

    @app.on_connect
    def note(client: Client) -> None:
        seen.append(client.id)

    async with app.serve() as server:
        ticket = app.ticket(Identity("ann"))
        url = f"{server.url}{PATH}/a?ticket={ticket}"
        page = server.url + "/healthz"
        following = asyncio.create_task(
            asyncio.to_thread(browser, "follow", page, page=page, urls=[url], marker="never said")
        )
        while not seen:
            await asyncio.sleep(0.05)
        # Whoever reads the URL in time opens the stream, too. Then the browser comes back, and proves it.
        async with stream(server, f"a?ticket={ticket}") as other:
            closed = (await other.end())[-1].data
            assert (closed["code"], closed["reconnect"]) == (4401, True)
        found = await following
    heard = [(name, text) for name, _, text in found["streams"][0]["heard"]]
    assert [name for name, _ in heard] == [
        *("connected", "subscription_established", "closed", "error", "error"),
    ]
    assert '"code":1012' in heard[2][1] and '"reconnect":true' in heard[2][1]
    assert [state for name, state in heard if name == "error"] == ["0", "2"], "it comes back, and then never"
    assert len(seen) == 2


async def test_an_event_source_outlives_a_restart_with_the_same_key_for_tickets(browser: Browser) -> None:
    key = "a key for tickets of 32 bytes, or more"
    port, url, following = 0, "", None
    seen: list[str] = []
    for number in range(3):
        app = Umbel(ticket_key=key, reconnect_window=0, drain=0.2)
        app.channel("a", open=True)
        app.authenticate(lambda request: None)
        app.on_connect(lambda client: seen.append(client.identity.claims["name"]))
        async with app.serve(port=port) as server:
            port = int(server.url.rpartition(":")[2])
            if following is None:
                url = f"{server.url}{PATH}/a?ticket={app.ticket(Identity('ann', {'name': 'Ann'}))}"
                page = server.url + "/healthz"
                following = asyncio.create_task(
                    asyncio.to_thread(browser, "follow", page, page=page, urls=[url], marker=MARKER)
                )
            while len(seen) <= number or not app.subscribers("a"):
                await asyncio.sleep(0.05)
            if number == 2:
                app.publish("a", MARKER)
                found = await following
    heard = found["streams"][0]["heard"]
    assert [name for name, *_ in heard].count("connected") == 3 and MARKER in heard[-1][2]
    assert seen == ["Ann"] * 3


async def test_the_recipe_gets_a_new_ticket_after_a_restart_that_has_forgotten_the_old_one(
    browser: Browser,
) -> None:
    page = (ROOT / "docs" / "event-streams.md").read_text()
    code = next(part for part in page.split("```js\n") if "async function follow" in part).partition("```")[0]
    port, following = 0, None
    seen: list[str] = []
    for number in range(3):
        app = Umbel(auth=secret(), ticket_path="/api/v1/ticket", reconnect_window=0, drain=0.2)
        app.channel("news", open=True)
        app.on_connect(lambda client: seen.append(client.identity.subject))
        async with app.serve(port=port) as server:
            port = int(server.url.rpartition(":")[2])
            if following is None:
                options = {
                    "page": server.url + "/healthz",
                    "code": code,
                    "token": token("ann"),
                    "marker": MARKER,
                }
                following = asyncio.create_task(
                    asyncio.to_thread(browser, "recipe", options["page"], **options)
                )
            while len(seen) <= number:
                await asyncio.sleep(0.05)
            while not app.subscribers("news"):
                await asyncio.sleep(0.05)
            app.publish("news", number)
            await asyncio.sleep(0.3)
            if number == 2:
                app.publish("news", MARKER)
                found = await following
    assert found["shown"] == [0, 1, 2, MARKER] and seen == ["ann"] * 3
    assert found["loaded"] == ["news"] * 2, "the logs are new"
    # The browser asks once more with each old ticket, and gets 401.
    assert found["asked"].count("/api/v1/ticket") >= 3 and found["asked"].count(PATH) >= 5


async def test_twenty_event_sources_have_one_connection_over_http2(
    browser: Browser, tmp_path: pathlib.Path
) -> None:
    app = Umbel(port=0)
    app.channel("{name}", open=True, replay="start", history=5)
    async with app.serve() as server:
        for number in range(20):
            app.publish(str(number), MARKER)
        with nginx(tmp_path, server.url, http2=True) as port:
            origin = f"https://127.0.0.1:{port}"
            urls = [f"{origin}{PATH}/{number}" for number in range(20)]
            found = await asyncio.to_thread(
                browser, "follow", origin, page=f"{origin}/healthz", urls=urls, marker=MARKER, insecure=True
            )
    names = [[name for name, *_ in stream["heard"]] for stream in found["streams"]]
    assert names == [["connected", "subscription_established", "message"]] * 20


async def test_an_event_source_stops_by_itself_when_its_stream_is_over(browser: Browser) -> None:
    app = Umbel(port=0, reconnect_window=0)

    @app.stream("tell")
    async def tell(run: Run, message: Any) -> AsyncIterator[str]:
        yield "all of it"

    @app.channel("run:{id}", replay="start")
    def may(client: Any, id: str) -> bool:
        return True

    @app.on_connect
    def note(client: Any) -> None:
        seen.append(client)

    seen: list[Any] = []
    async with app.serve() as server:
        async with wire(server) as starter:
            await starter.say("tell", id=1, data={})
            run = (await starter.hear("subscription_established"))["channel"]
            await starter.hear("subscription_ended")
        page = server.url + "/healthz"
        url = f"{server.url}{PATH}/{run}"
        found = await asyncio.to_thread(browser, "follow", page, page=page, urls=[url], marker="never said")
    heard = found["streams"][0]["heard"]
    assert [name for name, *_ in heard if name != "message"] == [
        *("connected", "subscription_established", "subscription_ended", "closed"),
        *("error", "error"),
    ]
    assert [state for name, _, state in heard if name == "error"] == ["0", "2"], "once more, then never"
    assert len(seen) == 2, "the application hears of the first opening only"

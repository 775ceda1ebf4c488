"""Tickets: what opens a stream, for how long, and what others can do with what they have seen."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from streams import Event, EventStream, stream
from test_credentials import advance
from test_jwt import bearer, secret
from tokens import token
from umbel import Client, ConfigurationError, Identity, Request, Server, Umbel
from wire import wire

ANN = Identity("ann", {"name": 'Ann "é"', "channels": ["task:1"]})
KEY = "a key for tickets of 32 bytes, or more"


def application(**settings: Any) -> Umbel:
    """Lets in those with tickets, and nobody else."""
    app = Umbel(**settings)
    app.channel("a", open=True, history=50)
    app.channel("b", open=True, history=50)
    app.channel("task:{x}", claims=True)

    @app.authenticate
    def nobody(request: Request) -> None:
        return None

    return app


@asynccontextmanager
async def opened(
    server: Server, ticket: str, last: str | None = None, **options: Any
) -> AsyncIterator[EventStream]:
    headers = options.pop("headers", None)
    target = options.pop("target", "a")
    join = "&" if "?" in target else "?"
    async with stream(server, f"{target}{join}ticket={ticket}", headers, last_id=last, **options) as events:
        yield events


async def status(server: Server, ticket: str, last: str | None = None, **options: Any) -> tuple[int, str]:
    """The status of an opening, and the reason of its refusal."""
    async with opened(server, ticket, last, **options) as events:
        if events.status == 200:
            return 200, ""
        body = await events._reader.read()
        return events.status, body.decode().partition('"reason":"')[2].partition('"')[0]


async def last_id(events: EventStream, channel: str = "a") -> str:
    while (event := await events.hear()).data.get("channel") != channel or event.name == "connected":
        pass
    assert event.id is not None
    return event.id


def secret_of(last_id: str | None) -> str:
    first, _, rest = (last_id or "").partition(".")
    return first if len(first) == 36 and rest else ""


def closed(heard: list[Event]) -> tuple[int, bool]:
    assert heard[-1].name == "closed"
    return heard[-1].data["code"], heard[-1].data["reconnect"]


BAD = (401, "bad_ticket")
SHARED = (401, "ticket_shared")


async def test_a_ticket_stands_for_the_identity_and_its_secret_is_in_every_id() -> None:
    app = application()
    seen: list[Client] = []

    @app.on_connect
    def note(client: Client) -> None:
        seen.append(client)

    async with app.serve(port=0) as server:
        ticket = app.ticket(ANN)
        async with opened(server, ticket, target="?channel=task:1&channel=task:2&channel=a") as events:
            connected = await events.hear("connected")
            assert connected.data["subject"] == "ann"
            assert (await events.hear("server_error")).data["channel"] == "task:2"
            await last_id(events)
            app.publish("a", 1)
            app.publish("task:1", 2)
            await events.updates(2)
            ids = [event.id or "" for event in events.parser.events]
            assert {secret_of(one) for one in ids} == {secret_of(connected.id)}
            assert secret_of(ids[0])
        client = seen[0]
        assert client.identity == ANN and client.identity.claims["name"] == 'Ann "é"'
        assert app.clients("ann") == [client] or not app.clients()
        request = client.request
        assert "ticket" not in request.query and request.query.all("channel") == ("task:1", "task:2", "a")


async def test_the_id_reopens_the_stream_and_the_former_one_ends() -> None:
    app = application(shards=2)
    async with app.serve(port=0) as server, AsyncExitStack() as stack:
        ticket = app.ticket(ANN)
        first = await stack.enter_async_context(opened(server, ticket))
        await last_id(first)
        app.publish("a", 0)
        await first.updates(1)
        secrets = {secret_of(first.parser.last_id)}
        for number in range(1, 9):
            second = await stack.enter_async_context(opened(server, ticket, first.parser.last_id))
            heard = await first.end()
            assert closed(heard) == (1012, True)
            assert heard[-1].id == first.parser.last_id
            app.publish("a", number)
            assert [update["data"] for update in await second.updates(1)] == [number]
            secrets.add(secret_of(second.parser.last_id))
            first = second
        assert len(secrets) == 9
        assert await status(server, ticket, first.parser.last_id) == (200, "")


@pytest.mark.parametrize("target", ["a", "?channel=a&channel=b", "a?events=single"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_streams_with_tickets_share_updates_and_have_ids_of_their_own(
    target: str, version: str
) -> None:
    app = application(shards=1)
    async with app.serve(port=0) as server:
        tickets = [app.ticket(Identity(f"user{number}")) for number in range(3)]
        async with (
            opened(server, tickets[0], target=target, version=version) as one,
            opened(server, tickets[1], target=target, version=version) as two,
            opened(server, tickets[2], target=target, version=version) as three,
        ):
            streams = [one, two, three]
            for events in streams:
                await last_id(events)
            for number in range(20):
                app.publish("a", {"number": number, "text": "x" * 2000})
            for events in streams:
                found: list[Any] = []
                while len(found) < 20:
                    data = (await events.hear("message")).data
                    found += data.get("updates", [data])
                assert [update["data"]["number"] for update in found] == list(range(20))
            secrets = [{secret_of(event.id) for event in it.parser.events} for it in streams]
            assert [len(own) for own in secrets] == [1, 1, 1] and len(set.union(*secrets)) == 3
            assert "" not in set.union(*secrets)
        positions = {events.parser.last_id.partition(".")[2] for events in streams}
        assert len(positions) == 1


async def test_a_lost_response_is_made_up_for_by_the_ticket_alone() -> None:
    app = application()
    async with app.serve(port=0) as server:
        ticket = app.ticket(ANN)
        async with opened(server, ticket) as lost, opened(server, ticket) as events:
            assert closed(await lost.end()) == (1012, True)
            await last_id(events)
        # The second response of a row is lost, too.
        async with (
            opened(server, ticket, events.parser.last_id) as lost,
            opened(server, ticket, events.parser.last_id) as again,
        ):
            assert closed(await lost.end()) == (1012, True)
            await last_id(again)
        assert await status(server, ticket) == BAD, "a secret was shown"


async def test_a_ticket_is_too_late_after_half_a_minute_or_once_its_secret_was_shown() -> None:
    app = application()
    async with app.serve(port=0) as server:
        late, ticket = app.ticket(ANN), app.ticket(ANN)
        async with opened(server, ticket) as events:
            last = await last_id(events)
            advance(server, 31)
            assert await status(server, late) == BAD
            assert await status(server, ticket) == BAD
            app.publish("a", 1)
            assert await events.updates(1), "who has read a log ends nothing"
        assert await status(server, ticket, last) == (200, "")


async def test_whoever_shows_a_superseded_secret_ends_the_ticket_for_both() -> None:
    app = application()
    async with app.serve(port=0) as server:
        ticket = app.ticket(ANN)
        async with opened(server, ticket) as first:
            stolen = await last_id(first)
        async with opened(server, ticket, stolen) as second:
            await last_id(second)
        async with opened(server, ticket, second.parser.last_id) as third:
            last = await last_id(third)
            assert await status(server, ticket, stolen) == SHARED
            assert closed(await third.end()) == (4401, True)
        for shown in (stolen, second.parser.last_id, last, None):
            assert await status(server, ticket, shown) == BAD


async def test_a_stream_that_is_reopened_needs_no_second_place_of_its_subject() -> None:
    app = Umbel(auth=secret(), max_connections_per_identity=1)
    app.channel("a", open=True, history=50)
    async with app.serve(port=0) as server:
        ticket = app.ticket(ANN)
        async with opened(server, ticket) as first:
            last = await last_id(first)
            async with opened(server, ticket, last) as second:
                assert (await second.hear("connected")).data["subject"] == "ann"
                async with stream(server, "a", bearer(token("ann"))) as other:
                    assert (await other.hear("closed")).data["code"] == 4429


async def test_two_that_open_at_once_are_found_out_when_the_first_comes_back() -> None:
    app = application(shards=2)
    async with app.serve(port=0) as server:
        ticket = app.ticket(ANN)
        async with opened(server, ticket) as one, opened(server, ticket) as two:
            other, own = await asyncio.gather(last_id(one), last_id(two))
            heard = await one.end()
            assert closed(heard) == (1012, True)
            async with opened(server, ticket, own) as again:
                await last_id(again)
                assert await status(server, ticket, other) == SHARED
                assert closed(await again.end()) == (4401, True)


async def test_secrets_of_other_tickets_and_ids_that_are_none_open_nothing_and_end_nothing() -> None:
    app = application()
    async with app.serve(port=0) as server:
        one, two = app.ticket(ANN), app.ticket(ANN)
        async with opened(server, one) as events, opened(server, two) as other:
            ids = [await last_id(events), await last_id(other)]
            wrong = "x" * 36 + "." + ids[0].partition(".")[2]
            for ticket, last in [
                (one, ids[1]),
                (two, ids[0]),
                (one, wrong),
                (one, "x" * 36 + "."),
                (one[:-1], ids[0]),
            ]:
                assert await status(server, ticket, last) == BAD
            assert await status(server, secret_of(ids[0])) == BAD
            assert await status(server, "") == BAD
            app.publish("a", 1)
            assert await events.updates(1) and await other.updates(1)


async def test_a_page_of_another_origin_can_not_use_it_and_a_page_of_its_own_names_none() -> None:
    origin = "https://a.example"
    app = application(origins=[origin, "https://b.example"])
    async with app.serve(port=0) as server:
        ticket = app.ticket(ANN, origin=origin)
        for sent, expected in [
            ("https://b.example", (401, "ticket_origin")),
            ("https://c.example", (403, "")),
            (origin, (200, "")),
            (None, (200, "")),
        ]:
            headers = {"Origin": sent} if sent else {}
            assert await status(server, ticket, headers=headers) == expected, sent
        for_all = app.ticket(ANN)
        assert await status(server, for_all, headers={"Origin": "https://b.example"}) == (200, "")


async def test_a_secret_in_a_url_opens_nothing_and_ends_its_ticket() -> None:
    app = application()
    async with app.serve(port=0) as server:
        ticket, new = app.ticket(ANN), app.ticket(ANN)
        async with opened(server, ticket) as events:
            await last_id(events)
            app.publish("a", 1)
            await events.updates(1)
            app.publish("a", 2)
            await events.updates(1)
            first = next(event.id for event in events.parser.events if event.name == "message")
            async with opened(server, new, target=f"a?after={first}") as next_one:
                assert [update["data"] for update in await next_one.updates(1)] == [2], "the position counts"
            assert closed(await events.end()) == (4401, True)
        assert await status(server, ticket, events.parser.last_id) == BAD
        assert await status(server, new, target=f"a?after={next_one.parser.last_id}") == BAD, "its own"


async def test_one_credential_counts() -> None:
    app = Umbel(auth=secret(cookie="login"))
    app.channel("a", open=True)
    subjects: list[str] = []

    @app.on_connect
    def note(client: Client) -> None:
        subjects.append(client.identity.subject)

    async with app.serve(port=0) as server:
        ticket = app.ticket(ANN)
        cookie = {"Cookie": f"login={token('ben')}"}
        assert await status(server, ticket, headers=bearer(token("ben"))) == (403, "two_credentials")
        assert await status(server, ticket, target=f"a?ticket={ticket}") == (403, "two_credentials")
        async with opened(server, ticket, headers=cookie) as events:
            assert (await events.hear("connected")).data["subject"] == "ann"
            await last_id(events)
        async with stream(server, "a", cookie) as events:
            await last_id(events)
        assert await status(server, "x", headers=cookie) == BAD, (
            "a ticket that does not count is not left out"
        )
    assert subjects == ["ann", "ben"]


async def test_without_identities_there_are_no_tickets() -> None:
    app = Umbel()
    app.channel("a", open=True)
    with pytest.raises(RuntimeError, match="not being served"):
        app.ticket(ANN)
    async with app.serve(port=0) as server:
        with pytest.raises(ConfigurationError, match=r"auth=JWT\(…\), or declare an @app.authenticate"):
            app.ticket(ANN)
        assert await status(server, "x") == BAD


async def test_what_can_have_no_ticket_is_explained() -> None:
    app = application()
    async with app.serve(port=0):
        with pytest.raises(TypeError, match="an Identity, not for str"):
            app.ticket("ann")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="origin must be"):
            app.ticket(ANN, origin=b"https://a.example")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="needs a subject"):
            app.ticket(Identity(""))
        with pytest.raises(ValueError, match="has expired"):
            app.ticket(Identity("ann", expires=time.time() - 1))
        with pytest.raises(ValueError, match=r"at most 2000 bytes of subject and claims.*has 20"):
            app.ticket(Identity("ann", {"x": "y" * 2000}))
        with pytest.raises(ValueError, match="lists of at most 256"):
            app.ticket(Identity("ann", {"channels": "task:1"}))
        with pytest.raises(TypeError):
            app.ticket(Identity("ann", {"x": object()}))
    with pytest.raises(ValueError, match="ticket_key must be at least 32 bytes"):
        Umbel(ticket_key="short")
    assert KEY not in repr(Umbel(ticket_key=KEY).settings)


async def test_a_ticket_ends_with_its_identity() -> None:
    app = application()
    async with app.serve(port=0) as server:
        ticket = app.ticket(Identity("ann", expires=time.time() + 100))
        async with opened(server, ticket) as events:
            last = await last_id(events)
            advance(server, 75)
            assert (await events.hear("token_expiring")).data["expiresIn"] in (24, 25)
            advance(server, 26)
            assert closed(await events.end()) == (4401, True)
        assert await status(server, ticket, last) == (401, "expired")


async def test_revoking_and_disconnecting_end_the_tickets_of_a_subject_used_or_not() -> None:
    for end, code in [("revoke", 4501), ("disconnect", 4500)]:
        for app in (application(), Umbel(auth=secret())):
            if app.auth:
                app.channel("a", open=True)
            async with app.serve(port=0) as server:
                used, unused, other = app.ticket(ANN), app.ticket(ANN), app.ticket(Identity("ben"))
                async with opened(server, used) as events:
                    await last_id(events)
                    await asyncio.to_thread(getattr(app, end), "ann")
                    assert closed(await events.end()) == (code, False)
                assert await status(server, used, events.parser.last_id) == BAD
                assert await status(server, unused) == BAD
                assert await status(server, other) == (200, "")
                assert await status(server, app.ticket(ANN)) == (200, ""), "a new one counts"


async def test_a_client_that_is_not_to_come_back_does_not() -> None:
    app = application()
    clients: list[Client] = []
    app.on_connect(clients.append)
    async with app.serve(port=0) as server:
        for code, expected in [(4500, BAD), (4001, (200, ""))]:
            ticket = app.ticket(ANN)
            async with opened(server, ticket) as events:
                last = await last_id(events)
                clients[-1].close(code, "enough")
                assert closed(await events.end())[0] == code
            assert await status(server, ticket, last) == expected


async def test_a_ticket_is_forgotten_ten_minutes_after_its_stream_and_not_before() -> None:
    app = application()
    async with app.serve(port=0) as server:
        one, two = app.ticket(ANN), app.ticket(ANN)
        async with opened(server, one) as first, opened(server, two) as second:
            ids = [await last_id(first), await last_id(second)]
            advance(server, 3600)
            app.publish("a", 1)
            await first.updates(1)
            await second.updates(1)
        while server.stats().connections:
            await asyncio.sleep(0.01)
        advance(server, 590)
        assert await status(server, one, ids[0]) == (200, "")
        advance(server, 11)
        assert await status(server, two, ids[1]) == BAD


async def test_a_restart_ends_streams_only_without_a_key() -> None:
    for key in (None, KEY):
        app = application(ticket_key=key)
        async with app.serve(port=0) as server:
            ticket, unused, moved = (
                app.ticket(ANN),
                app.ticket(ANN),
                app.ticket(ANN, origin="https://a.example"),
            )
            async with opened(server, ticket) as events:
                first = await last_id(events)
            async with opened(server, ticket, first) as events:
                last = await last_id(events)
        seen: list[Identity] = []
        app = application(ticket_key=key)

        @app.on_connect
        def note(client: Client, seen: list[Identity] = seen) -> None:
            seen.append(client.identity)

        async with app.serve(port=0) as server:
            if key is None:
                assert await status(server, ticket, last) == BAD
                continue
            async with opened(server, ticket, last) as events:
                new = await last_id(events)
                assert seen[-1] == ANN
            assert await status(server, unused) == (200, ""), "half a minute is not over"
            async with opened(server, ticket, new) as events:
                await last_id(events)
                assert await status(server, ticket, first) == SHARED
                assert closed(await events.end()) == (4401, True)
            assert await status(server, ticket, last) == BAD, "void stays void"
            advance(server, 601)
            assert await status(server, moved, None) == BAD


async def test_a_full_table_gives_way_what_waits_and_keeps_open_streams() -> None:
    app = application(max_tickets_per_identity=2)
    async with app.serve(port=0) as server:
        first, second = app.ticket(ANN), app.ticket(ANN)
        async with opened(server, second) as events:
            await last_id(events)
            third = app.ticket(ANN)
            assert await status(server, first) == BAD, "it gave way"
            async with opened(server, third) as other:
                await last_id(other)
                with pytest.raises(RuntimeError, match=r"2 tickets whose streams are open.*max_tickets"):
                    app.ticket(ANN)
                assert app.ticket(Identity("ben"))
                app.publish("a", 1)
                assert await events.updates(1) and await other.updates(1)
        while server.stats().connections:
            await asyncio.sleep(0.01)
        assert await status(server, app.ticket(ANN)) == (200, "")


async def test_tickets_and_secrets_are_in_no_log_and_no_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    app = application()
    shown: list[str] = []

    @app.on_connect
    def note(client: Client) -> None:
        request = client.request
        shown.append(f"{request!r} {dict(request.query)} {dict(request.headers)} {request._handshake!r}")
        raise RuntimeError("a function that fails")

    async with app.serve(port=0) as server:
        server._core.set_debug(True)  # type: ignore[union-attr]
        ticket, other = app.ticket(ANN), app.ticket(ANN)
        async with opened(server, ticket, headers={"X-Other": "1"}) as events:
            last = (await events.hear("connected")).id or ""
            await events.end()
        await status(server, ticket, last, target=f"a?%74icket=&after={last}&keep=1")
        await status(server, other, last, target=f"a?after={last}&keep=1")
        await status(server, "wrong-ticket", "wrong-secret" * 3 + ".x")
        await status(server, other, target="", method="POST")
        await status(server, other, target="?", headers={"Content-Length": "7"})
        await asyncio.sleep(0.05)
    hidden = secret_of(last)
    text = caplog.text + "".join(shown)
    assert "a stream opened from" in text and 'let in as "ann"' in text and "x-other" in text
    for word in (ticket, other, hidden, "wrong-ticket", "wrong-secret"):
        assert word not in text


async def test_any_thread_may_give_tickets_while_others_open_their_streams() -> None:
    app = application(shards=2, max_tickets_per_identity=0)
    async with app.serve(port=0) as server:
        tickets: list[str] = []

        def give() -> None:
            tickets.extend(app.ticket(Identity(f"user{number}")) for number in range(50))

        threads = [threading.Thread(target=give) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert len(set(tickets)) == 200
        found = [await status(server, ticket) for ticket in tickets[::5]]
        assert found == [(200, "")] * 40


async def test_a_ticket_is_decided_while_python_is_blocked() -> None:
    app = Umbel(auth=secret())
    app.channel("a", open=True)
    async with app.serve(port=0) as server:
        ticket, host = app.ticket(ANN), server.url.removeprefix("http://").partition(":")
        found: list[bytes] = []

        def ask() -> None:
            import socket

            with socket.create_connection((host[0], int(host[2]))) as connection:
                request = f"GET /api/v1/stream/a?ticket={ticket} HTTP/1.1\r\nHost: localhost\r\n\r\n"
                connection.sendall(request.encode())
                while b"connected" not in b"".join(found):
                    found.append(connection.recv(4096))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(10)  # this thread has the event loop
        assert b"200 OK" in found[0] and not thread.is_alive()


async def test_who_is_turned_away_for_others_keeps_what_it_has() -> None:
    app = Umbel(auth=secret(), max_connections_per_identity=1)
    app.channel("a", open=True)
    async with app.serve(port=0) as server:
        ticket = app.ticket(ANN)
        async with opened(server, ticket) as events:
            last = await last_id(events)
        while server.stats().connections:
            await asyncio.sleep(0.01)
        async with stream(server, "a", bearer(token("ann"))) as other:
            await last_id(other)
            for _ in range(3):
                async with opened(server, ticket, last) as refused:
                    assert [event.name for event in await refused.end()] == ["server_error", "closed"]
                    assert closed(refused.parser.events) == (4429, True)
                advance(server, 31)
        while server.stats().connections:
            await asyncio.sleep(0.01)
        assert await status(server, ticket, last) == (200, ""), "nobody has heard another secret"


async def test_a_run_that_is_over_is_204_for_who_has_it_all() -> None:
    app = Umbel(auth=secret())

    @app.stream("tell")
    async def tell(run: Any, message: Any) -> AsyncIterator[str]:
        yield "all of it"

    @app.channel("run:{id}", replay="start")
    def may(client: Client, id: str) -> bool:
        return client.identity.subject == "ann"

    async with app.serve(port=0) as server:
        async with wire(server, additional_headers=bearer(token("ben"))) as starter:
            await starter.say("tell", id=1, data={})
            run = (await starter.hear("subscription_established"))["channel"]
            await starter.hear("subscription_ended")
        ticket = app.ticket(ANN)
        async with opened(server, ticket, target=run) as events:
            heard = await events.end()
            assert closed(heard) == (1000, False) and heard[-2].name == "subscription_ended"
        async with opened(server, ticket, events.parser.last_id, target=run) as over:
            assert over.status == 204
        assert await status(server, ticket, target=run) == BAD, "its client was not to come back"

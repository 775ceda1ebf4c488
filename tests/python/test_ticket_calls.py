"""Pages that ask the server itself for a ticket."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from calling import Program, Response, program
from streams import stream
from test_jwt import bearer, secret
from test_tickets import last_id, status
from tokens import token
from umbel import Client, ConfigurationError, Identity, Request, Umbel

TICKET = "/api/v1/ticket"


async def ask(caller: Program, **headers: str) -> Response:
    caller.send(f"POST {TICKET}", {name.replace("_", "-"): value for name, value in headers.items()})
    return await caller.hear()


def with_tokens(**settings: Any) -> Umbel:
    app = Umbel(auth=secret(cookie="login"), ticket_path=TICKET, **settings)
    app.channel("a", open=True)
    return app


async def test_a_page_shows_its_token_and_gets_a_ticket_with_all_its_claims() -> None:
    app = with_tokens()
    seen: list[Client] = []
    app.on_connect(seen.append)
    async with app.serve(port=0) as server, program(server) as caller:
        cookie = {"Cookie": f"login={token('ben')}", "Sec_Fetch_Site": "same-origin"}
        for headers, subject in [(bearer(token("ann", team="blue")), "ann"), (cookie, "ben")]:
            answer = await ask(caller, **headers)
            assert (answer.status, answer.kept) == (200, True)
            assert set(answer.body) == {"type", "ticket", "expiresIn"}
            assert (answer.body["type"], answer.body["expiresIn"]) == ("ticket", 30)
            assert answer.headers["cache-control"] == "no-store"
            async with stream(server, f"a?ticket={answer.body['ticket']}") as events:
                assert (await events.hear("connected")).data["subject"] == subject
                await last_id(events)
    assert seen[0].identity.claims["team"] == "blue" and seen[0].identity.expires is not None
    assert len(seen) == 2, "who asks for a ticket does not connect"


async def test_an_authenticate_function_says_who_gets_a_ticket() -> None:
    app = Umbel(ticket_path=TICKET)
    app.channel("a", open=True)
    asked: list[str] = []
    seen: list[Identity] = []

    @app.authenticate
    def who(request: Request) -> Identity | None:
        asked.append(request.path)
        assert "ticket" not in request.query
        claims = {"at": object()} if request.token == "odd" else {"team": "blue", "n": [1]}
        return Identity(request.token, claims) if request.token else None

    @app.on_connect
    def note(client: Client) -> None:
        seen.append(client.identity)

    async with app.serve(port=0) as server:
        async with program(server) as caller:
            answer = await ask(caller, Authorization="Bearer ann")
            again = await ask(caller, Authorization="Bearer ann")
            assert answer.status == again.status == 200
            assert answer.body["ticket"] != again.body["ticket"]
            assert await status(server, answer.body["ticket"]) == (200, "")
            assert seen == [Identity("ann", {"team": "blue", "n": [1]})]
            assert asked == [TICKET], "once for its connection, and never for a stream with a ticket"
        async with program(server) as caller:
            assert (await ask(caller)).status == 401
        async with program(server) as caller:
            caller.send(f"POST {TICKET}?ticket={again.body['ticket']}")
            assert (await caller.hear()).status == 401, "a ticket gives no ticket"
        async with program(server) as caller:
            failed = await ask(caller, Authorization="Bearer odd")
            assert (failed.status, failed.body["code"]) == (500, "internal")


async def test_who_shows_nothing_that_counts_gets_no_ticket() -> None:
    app = with_tokens(max_tickets_per_identity=1)
    async with app.serve(port=0) as server:
        ticket = app.ticket(Identity("ann"))
        for headers, code, reason in [
            ({}, 401, "missing"),
            (bearer(token("ann", lasts=-60)), 401, "expired"),
            (bearer("x"), 403, "malformed"),
            ({"Authorization": f"Ticket {ticket}"}, 401, "missing"),
        ]:
            async with program(server) as caller:
                answer = await ask(caller, **headers)
                assert (answer.status, answer.body["details"]["reason"]) == (code, reason)
        async with program(server) as caller:
            caller.send(f"POST {TICKET}?ticket={ticket}")
            assert (await caller.hear()).status == 401, "a ticket gives no ticket"
        for headers, code in [
            ({"Cookie": f"login={token('ann')}"}, 403),
            ({"Content-Length": "2"}, 400),
            ({"Origin": "https://b.example", **bearer(token("ann"))}, 403),
        ]:
            async with program(server) as caller:
                caller.send(f"POST {TICKET}", headers)
                assert (await caller.hear()).status == code
        async with program(server) as caller:
            caller.send(f"GET {TICKET}", bearer(token("ann")))
            assert (await caller.hear()).status == 405
        async with program(server) as caller, stream(server, f"a?ticket={ticket}") as events:
            await last_id(events)
            full = await ask(caller, **bearer(token("ann")))
            assert (full.status, full.body["code"]) == (429, "limit_exceeded")
            assert (await ask(caller, **bearer(token("ben")))).status == 200, "the connection is kept"
            await asyncio.to_thread(app.revoke, "cid")
            revoked = await ask(caller, **bearer(token("cid", issued=1)))
            assert revoked.status in (401, 403)


async def test_a_ticket_is_for_pages_of_the_origin_that_has_asked() -> None:
    origins = ["https://a.example", "https://b.example"]
    app = with_tokens(origins=origins)
    async with app.serve(port=0) as server, program(server) as caller:
        preflight = {"Origin": origins[0], "Access-Control-Request-Method": "POST"}
        caller.send(f"OPTIONS {TICKET}", preflight)
        allowed = await caller.hear()
        assert allowed.status == 204 and "Authorization" in allowed.headers["access-control-allow-headers"]
        assert allowed.headers["access-control-allow-origin"] == origins[0]
    async with app.serve(port=0) as server, program(server) as caller:
        answer = await ask(caller, Origin=origins[0], **bearer(token("ann")))
        assert answer.headers["access-control-allow-origin"] == origins[0]
        ticket = answer.body["ticket"]
        assert await status(server, ticket, headers={"Origin": origins[1]}) == (401, "ticket_origin")
        assert await status(server, ticket, headers={"Origin": origins[0]}) == (200, "")


async def test_without_the_setting_there_is_nothing_and_without_identities_no_server() -> None:
    app = Umbel(auth=secret())
    async with app.serve(port=0) as server, program(server) as caller:
        assert (await ask(caller, **bearer(token("ann")))).status == 404
    with pytest.raises(ConfigurationError, match="ticket_path gives tickets"):
        async with Umbel(ticket_path=TICKET).serve(port=0):
            pass
    with pytest.raises(ValueError, match="ticket_path"):
        Umbel(ticket_path="/api/v1/other")
    with pytest.raises(ValueError, match="ticket_path"):
        Umbel(ticket_path="/t", publish_path="/t")

"""Credentials that run out, are renewed and are revoked; and what claims allow."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from coming_back import begun, closed, cut, opened, resumed
from streams import stream
from test_jwt import bearer, secret
from tokens import token
from umbel import Client, ConfigurationError, Identity, Message, Request, Server, Umbel, WebSocket, testing
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from wire import Wire, wire


def advance(server: Server, seconds: float) -> None:
    assert server._core is not None
    server._core.advance_clock(seconds)


def application(**settings: Any) -> Umbel:
    app = Umbel(auth=secret(leeway=5), **settings)
    app.channel("open:{x}", open=True)
    app.channel("task:{x}", claims=True)
    app.channel("chat:{x}", open=True, claims=True)

    @app.channel("room:{x}", claims=True)
    def room(client: Client, x: str) -> bool:
        return client.identity.claims.get("asked", False)

    @app.on("who")
    def who(client: Client, message: Message) -> Any:
        return dict(client.identity.claims)

    @app.websocket("/echo")
    async def echo(websocket: WebSocket) -> None:
        async for message in websocket:
            await websocket.send(message)

    return app


@asynccontextmanager
async def entered(server: Server, **claims: Any) -> AsyncIterator[Wire]:
    async with wire(server, additional_headers=bearer(token("ann", **claims))) as client:
        yield client


# Time


async def test_a_client_is_told_in_time_and_closed_at_the_end() -> None:
    async with application().serve(port=0) as server, entered(server, lasts=60) as client:
        advance(server, 29)
        await client.say("heartbeat")
        assert (await client.hear())["type"] == "heartbeat_ack"
        advance(server, 2)
        told = await client.hear()
        assert told["type"] == "token_expiring"
        assert told["expiresIn"] in (29, 30)
        advance(server, 30)  # the leeway is left
        await client.say("heartbeat")
        assert (await client.hear())["type"] == "heartbeat_ack"
        advance(server, 5)
        assert await closed(client) == (4401, "the credentials have expired")


async def test_a_session_is_there_after_its_token_has_expired_for_who_has_a_new_one() -> None:
    async with application().serve(port=0) as server:
        async with begun(server, token=token("ann", lasts=60)) as first:
            advance(server, 66)
            assert (await closed(first))[0] == 4401
        async with resumed(server, first, 1, token=token("ann", issued=time.time() + 66)) as client:
            assert client.greeting["resumed"] is True


async def test_a_token_is_renewed_on_the_open_connection() -> None:
    async with application().serve(port=0) as server, begun(server, token=token("ann", lasts=60)) as client:
        advance(server, 35)
        assert (await client.hear("token_expiring"))["expiresIn"] in (24, 25)
        await client.say(
            "authenticate", token=token("ann", issued=time.time() + 35, lasts=600, role="new"), id=7
        )
        answer = await client.hear()
        assert {name: answer[name] for name in ("type", "subject", "id")} == {
            "type": "authenticated",
            "subject": "ann",
            "id": 7,
        }
        assert answer["expiresIn"] in (599, 600)
        await client.say("who", id=8)
        assert (await client.hear("who_result"))["data"]["role"] == "new"
        advance(server, 100)  # beyond the end of the first
        await client.say("heartbeat")
        assert (await client.hear())["type"] == "heartbeat_ack"
        advance(server, 475)
        assert (await client.hear())["type"] == "token_expiring"
        advance(server, 30)
        assert (await closed(client))[0] == 4401
        # The session has the new token, too.
        async with opened(server) as late:
            await late.say("resume", session=client.greeting["session"]["token"], attempt=1, positions={})
            assert (await closed(late))[0] == 4401


async def test_a_renewal_that_fails_changes_nothing_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "umbel")
    async with application().serve(port=0) as server, entered(server, lasts=60) as client:
        for text, code, reason in (
            (token("ann", lasts=-60), "unauthenticated", "expired"),
            (token("ann", aud="else"), "bad_token", "wrong_audience"),
            ("x", "bad_token", "malformed"),
            (None, "unauthenticated", "missing"),
        ):
            await client.say("authenticate", id=1, **({} if text is None else {"token": text}))
            error = await client.hear()
            assert (error["code"], error["details"], error["id"]) == (code, {"reason": reason}, 1)
        await client.say("who", id=2)
        assert (await client.hear("who_result"))["data"]["sub"] == "ann"
        advance(server, 66)
        assert (await closed(client))[0] == 4401
    [line] = [it.getMessage() for it in caplog.records if "on open connections" in it.getMessage()]
    assert "1, the last one from 127.0.0.1" in line
    assert line.endswith(": the token has expired")


async def test_a_token_of_somebody_else_ends_the_connection() -> None:
    async with application().serve(port=0) as server, entered(server) as client:
        await client.say("authenticate", token=token("bob"))
        assert (await client.hear())["code"] == "not_allowed"
        assert await closed(client) == (4500, "the token is of another subject")


async def test_a_stream_ends_with_its_token() -> None:
    async with (
        application().serve(port=0) as server,
        stream(server, "open:a", bearer(token("ann", lasts=60))) as news,
    ):
        await news.hear("connected")
        advance(server, 31)
        assert (await news.hear("token_expiring")).data["expiresIn"] in (28, 29)
        advance(server, 34)
        end = (await news.hear("closed")).data
        assert (end["code"], end["reconnect"]) == (4401, True)


async def test_a_websocket_path_ends_with_its_token() -> None:
    async with application().serve(port=0) as server:
        url = server.url.replace("http", "ws") + "/echo"
        async with connect(url, proxy=None, additional_headers=bearer(token(lasts=60))) as connection:
            await connection.send("a")
            assert await connection.recv() == "a"
            advance(server, 66)
            with pytest.raises(ConnectionClosed):
                await connection.recv()
            assert connection.close_code == 4401


async def test_an_identity_of_the_application_ends_too() -> None:
    app = Umbel()
    app.channel("task:{x}", claims=True)

    @app.authenticate
    def who(request: Request) -> Identity:
        claims = {"channels": ["task:1"], "publish": ["task:*"]}
        return Identity(request.token or "", claims, time.time() + 60)

    async with app.serve(port=0) as server, begun(server, token="ann") as client:
        await client.say("subscribe_updates", channels=["task:1", "task:2"])
        assert (await client.hear())["channel"] == "task:1"
        assert (await client.hear())["code"] == "not_allowed"
        await client.say("publish", channel="task:2", data=1, id=1)
        assert (await client.hear())["type"] == "published"
        advance(server, 31)
        assert (await client.hear())["type"] == "token_expiring"
        advance(server, 30)
        assert (await closed(client))[0] == 4401
        async with resumed(server, client, 1, token="ann") as again:
            assert again.greeting["resumed"] is True


# Rights


async def test_claims_say_which_channels_a_client_reads() -> None:
    async with (
        application().serve(port=0) as server,
        entered(server, channels=["task:*", "room:7"]) as client,
    ):
        for channel, code in (
            ("task:1", None),
            ("task:", "unknown_channel"),
            ("room:7", None),
            ("room:8", "not_allowed"),
            ("open:1", None),
            ("@abc", "bad_channel"),
            ("$x", "bad_channel"),
        ):
            await client.say("subscribe_updates", channel=channel)
            assert (await client.hear()).get("code") == code, channel
    async with application().serve(port=0) as server:
        async with entered(server, channels=["task:2"], asked=True) as client:
            for channel, code in (("task:1", "not_allowed"), ("task:2", None), ("room:8", None)):
                await client.say("subscribe_updates", channel=channel)
                assert (await client.hear()).get("code") == code, channel
        async with entered(server) as client:
            await client.say("subscribe_updates", channel="task:1")
            error = await client.hear()
            assert (error["code"], error["message"]) == (
                "not_allowed",
                "the claims of this client do not name this channel",
            )


async def test_rights_to_publish_are_apart() -> None:
    async with (
        application().serve(port=0) as server,
        entered(server, channels=["task:*"], publish=["task:1", "chat:*", "open:*"]) as client,
    ):
        for number, (channel, code) in enumerate(
            (("task:1", None), ("task:2", "not_allowed"), ("chat:1", None), ("open:1", "not_allowed"))
        ):
            await client.say("publish", channel=channel, data=1, id=number)
            assert (await client.hear()).get("code") == code, channel


@pytest.mark.parametrize(
    "claims", [{"channels": "task:*"}, {"channels": ["a*b"]}, {"publish": [1]}, {"channels": ["a"] * 257}]
)
async def test_claims_have_a_form_where_they_count(claims: dict[str, Any]) -> None:
    async with (
        application().serve(port=0) as server,
        connect(
            server.url.replace("http", "ws") + "/ws", proxy=None, additional_headers=bearer(token(**claims))
        ) as connection,
    ):
        client = Wire(connection)
        assert (await client.hear())["details"]["reason"] == "bad_claims"
        assert (await closed(client))[0] == 4503
    other = Umbel(auth=secret())
    other.channel("a", open=True)
    async with other.serve(port=0) as server, wire(server, additional_headers=bearer(token(**claims))):
        pass  # others may give these claims another meaning


async def test_a_renewal_with_fewer_rights_ends_what_is_no_longer_allowed() -> None:
    async with (
        application().serve(port=0) as server,
        entered(server, channels=["task:*", "room:7"], publish=["task:*"]) as client,
    ):
        for channel in ("task:1", "task:2", "room:7", "open:1"):
            await client.say("subscribe_updates", channel=channel)
            await client.hear("subscription_established")
        await client.say("authenticate", token=token("ann", channels=["task:2", "task:3"]))
        assert (await client.hear())["type"] == "authenticated"
        ended = [await client.hear() for _ in range(2)]
        assert {(it["type"], it["channel"], it["reason"]) for it in ended} == {
            ("subscription_ended", "task:1", "not_allowed"),
            ("subscription_ended", "room:7", "not_allowed"),
        }
        await client.say("publish", channel="task:2", data=1, id=1)
        assert (await client.hear())["code"] == "not_allowed"
        # More rights disturb nothing.
        await client.say("authenticate", token=token("ann", channels=["*"]))
        assert (await client.hear())["type"] == "authenticated"
        await client.say("subscribe_updates", channel="task:1")
        assert (await client.hear())["type"] == "subscription_established"


async def test_who_comes_back_with_fewer_rights_has_only_what_is_allowed() -> None:
    async with application().serve(port=0) as server:
        async with begun(server, token=token("ann", channels=["task:*"])) as first:
            positions = {}
            for channel in ("task:1", "task:2"):
                await first.say("subscribe_updates", channel=channel)
                told = await first.hear("subscription_established")
                positions[channel] = {"epoch": told["epoch"], "offset": told["offset"]}
            await cut(first)
        text = token("ann", channels=["task:2"])
        async with resumed(server, first, 1, positions=positions, token=text) as client:
            heard = {message["channel"]: message for message in [await client.hear(), await client.hear()]}
            assert heard["task:1"]["code"] == "not_allowed"
            assert heard["task:2"]["recovered"] is True


async def test_what_a_function_has_allowed_stays() -> None:
    async with application().serve(port=0) as server, entered(server, asked=True) as client:
        await client.say("subscribe_updates", channel="room:1")
        await client.hear("subscription_established")
        await client.say("authenticate", token=token("ann"))
        await client.hear("authenticated")
        await client.say("unsubscribe_updates", channel="room:1")
        assert (await client.hear())["reason"] == "unsubscribed"


def test_declarations_that_contradict_claims_are_refused() -> None:
    app = Umbel()
    with pytest.raises(ConfigurationError, match="drop claims=True"):
        app.channel("a", open=True, publish=True, claims=True)
    with pytest.raises(ConfigurationError, match="True or False"):
        app.channel("a", claims=1)  # type: ignore[arg-type]


async def test_rights_of_an_application_have_a_form() -> None:
    app = Umbel()
    app.channel("task:{x}", claims=True)
    with pytest.raises(Exception, match="1011"):
        async with testing.connect(app, identity=Identity("ann", {"channels": "task:*"})):
            pass
    async with testing.connect(app, identity=Identity("ann", {"channels": ["task:*"]})) as ann:
        await ann.subscribe("task:1").ready()


# Revoking


async def test_what_a_revoked_subject_has_is_over() -> None:
    app = application()
    async with app.serve(port=0, shards=2) as server:
        url = server.url.replace("http", "ws") + "/echo"
        async with begun(server, token=token("ann")) as away:
            await cut(away)
        async with (
            entered(server) as one,
            begun(server, token=token("ann")) as two,
            stream(server, "open:a", bearer(token("ann"))) as news,
            connect(url, proxy=None, additional_headers=bearer(token("ann"))) as path,
            wire(server, additional_headers=bearer(token("bob"))) as bob,
        ):
            await path.send("a")
            assert await path.recv() == "a"
            app.revoke("ann")
            for client in (one, two):
                assert await closed(client) == (4501, "access was revoked")
            end = (await news.hear("closed")).data
            assert (end["code"], end["reconnect"]) == (4501, False)
            with pytest.raises(ConnectionClosed):
                await path.recv()
            assert path.close_code == 4501
            await bob.say("heartbeat")
            assert (await bob.hear())["type"] == "heartbeat_ack"
        advance(server, 2)
        async with resumed(server, away, 1, token=token("ann", issued=time.time() + 2)) as late:
            assert late.greeting["reason"] == "unknown"


async def test_tokens_of_before_do_not_count_after_a_revocation() -> None:
    app = application()
    async with app.serve(port=0) as server:
        early = token("ann")
        async with wire(server, additional_headers=bearer(early)):
            pass  # now it is known
        async with begun(server, token=early) as first:
            pass
        app.revoke("ann")
        url = server.url.replace("http", "ws") + "/ws"
        for text in (early, token("ann"), token("ann", iat=None)):
            async with connect(url, proxy=None, additional_headers=bearer(text)) as connection:
                client = Wire(connection)
                assert (await client.hear())["details"]["reason"] == "revoked"
                assert (await closed(client))[0] == 4401
        # Its session is gone.
        advance(server, 2)
        late = token("ann", issued=time.time() + 2)
        async with resumed(server, first, 1, token=late) as client:
            assert (client.greeting["resumed"], client.greeting["reason"]) == (False, "unknown")
        # Bob has nothing to do with it.
        async with wire(server, additional_headers=bearer(token("bob"))):
            pass


async def test_a_subject_can_be_disconnected_that_python_does_not_know() -> None:
    app = Umbel(auth=secret())
    app.channel("open:{x}", open=True)
    async with app.serve(port=0) as server, entered(server) as client:
        assert app.disconnect("ann", 4500, "bye") == 0
        assert await closed(client) == (4500, "bye")


async def test_an_application_without_tokens_can_revoke_too() -> None:
    app = Umbel()

    @app.authenticate
    def who(request: Request) -> str:
        return request.token or "nobody"

    with pytest.raises(ValueError, match="anonymous"):
        app.revoke("")
    with pytest.raises(RuntimeError, match="not being served"):
        app.revoke("ann")
    async with app.serve(port=0) as server, begun(server, token="ann") as client:
        app.revoke("ann")
        assert (await closed(client))[0] == 4501
        async with resumed(server, client, 1, token="ann") as again:
            assert again.greeting["resumed"] is False

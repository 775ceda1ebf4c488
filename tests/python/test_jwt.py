"""Clients that are let in by their tokens, before Python hears of them."""

from __future__ import annotations

import asyncio
import json
import logging
import pathlib
import threading
import time
from typing import Any

import pytest
import umbel
from coming_back import FIRST, cut, opened, resumed, until
from pages import PAGES
from serving import ROOT
from streams import PATH, stream
from test_docs import rows, words
from tokens import RSA, SECRET, token
from umbel import (
    JWT,
    Client,
    ConfigurationError,
    Identity,
    Message,
    Request,
    Server,
    Umbel,
    WebSocket,
    _core,
    testing,
)
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from wire import Wire, wire


def secret(**options: Any) -> JWT:
    return JWT(key=SECRET, algorithms=["HS256"], **options)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def application(auth: JWT | None = None, **settings: Any) -> Umbel:
    """Tells each client who it is."""
    app = Umbel(auth=auth or secret(), **settings)
    app.channel("news", open=True)

    @app.on("who")
    def who(client: Client, message: Message) -> Any:
        identity = client.identity
        return [identity.subject, dict(identity.claims), identity.expires]

    @app.websocket("/echo")
    async def echo(websocket: WebSocket) -> None:
        await websocket.send(websocket.identity.subject)

    return app


async def end(connection: ClientConnection) -> tuple[list[Any], int, str]:
    """What a client hears that is not let in: messages, code and reason."""
    heard = Wire(connection)
    messages = []
    with pytest.raises(ConnectionClosed):
        while True:
            messages.append(await heard.hear())
    assert connection.close_code is not None
    return messages, connection.close_code, connection.close_reason or ""


async def refused(server: Server, path: str = "/ws", **options: Any) -> tuple[str, str, int]:
    """Code and reason of the error, and the close code."""
    async with connect(server.url.replace("http", "ws") + path, proxy=None, **options) as connection:
        [error], code, text = await end(connection)
        assert error["message"] == text
        return error["code"], error["details"]["reason"], code


# Ways in


async def test_a_token_in_the_header_says_who_the_client_is() -> None:
    for algorithm, auth in (("HS256", secret()), ("RS256", JWT(key=RSA, algorithms=["RS256"]))):
        async with application(auth).serve(port=0) as server:
            text = token("ann", algorithm=algorithm, role="editor")
            async with wire(server, additional_headers=bearer(text)) as client:
                assert client.greeting["subject"] == "ann"
                await client.say("who", id=1)
                subject, claims, expires = (await client.hear("who_result"))["data"]
                assert (subject, claims["role"]) == ("ann", "editor")
                assert expires == pytest.approx(claims["exp"], abs=0.001)


async def test_a_token_in_the_first_message_says_who_the_client_is() -> None:
    async with application().serve(port=0) as server, opened(server) as client:
        await client.say("authenticate", token=token("ann"))
        assert (await client.hear("connection_established"))["subject"] == "ann"
        await client.say("who", id=1)
        assert (await client.hear("who_result"))["data"][0] == "ann"


async def test_a_cookie_counts_where_it_has_a_name_and_nothing_else_was_shown() -> None:
    app = application(secret(cookie="login"))
    async with app.serve(port=0) as server:
        cookie = {"Cookie": f'a=b; login="{token("ann")}"; login=x; c=d'}
        async with wire(server, additional_headers=cookie) as client:
            assert client.greeting["subject"] == "ann"
        async with wire(server, additional_headers={**cookie, **bearer(token("bob"))}) as client:
            assert client.greeting["subject"] == "bob"
        async with connect(
            server.url.replace("http", "ws") + "/ws",
            proxy=None,
            subprotocols=FIRST,
            additional_headers=cookie,
        ) as connection:
            client = Wire(connection)
            await client.say("authenticate")
            assert (await client.hear("connection_established"))["subject"] == "ann"
    async with application().serve(port=0) as server:
        assert await refused(server, additional_headers=cookie) == ("unauthenticated", "missing", 4401)


async def test_a_token_in_the_url_does_not_count() -> None:
    async with application(secret(cookie="token")).serve(port=0) as server:
        for name in ("token", "access_token", "ticket", "jwt"):
            path = f"/ws?{name}={token()}"
            assert await refused(server, path) == ("unauthenticated", "missing", 4401)


async def test_two_tokens_are_refused_also_when_they_are_the_same() -> None:
    text = token()
    async with application().serve(port=0) as server:
        twice = [("Authorization", f"Bearer {text}")] * 2
        assert await refused(server, additional_headers=twice) == ("bad_token", "two_credentials", 4503)
        async with connect(
            server.url.replace("http", "ws") + "/ws",
            proxy=None,
            subprotocols=FIRST,
            additional_headers=bearer(text),
        ) as connection:
            await Wire(connection).say("authenticate", token=text)
            [error], code, _ = await end(connection)
            assert (error["details"]["reason"], code) == ("two_credentials", 4503)


async def test_other_schemes_are_for_somebody_else() -> None:
    async with application().serve(port=0) as server:
        basic = {"Authorization": "Basic YTpi"}
        assert await refused(server, additional_headers=basic) == ("unauthenticated", "missing", 4401)
        async with wire(server, additional_headers={"Authorization": f"bearer  {token()}"}) as client:
            assert client.greeting["subject"] == "ann"


async def test_a_websocket_path_has_the_identity_too() -> None:
    async with application().serve(port=0) as server:
        url = server.url.replace("http", "ws") + "/echo"
        async with connect(url, proxy=None, additional_headers=bearer(token("ann"))) as connection:
            assert await connection.recv() == "ann"
        async with connect(url, proxy=None, additional_headers=bearer("x")) as connection:
            with pytest.raises(ConnectionClosed):
                await connection.recv()
            assert (connection.close_code, connection.close_reason) == (
                4503,
                "the token is not a signed JSON Web Token",
            )


async def test_a_stream_is_refused_by_its_status() -> None:
    async with application().serve(port=0) as server:
        async with stream(server, f"{PATH}/news", bearer(token("ann"))) as news:
            assert (await news.hear("connected")).data["subject"] == "ann"
        for text, status, reason in (
            (None, 401, "missing"),
            (token(lasts=-60), 401, "expired"),
            ("x", 403, "malformed"),
        ):
            headers = {} if text is None else bearer(text)
            async with stream(server, f"{PATH}/news", headers) as news:
                assert news.status == status
                error = json.loads(await news.body())
                assert (error["type"], error["details"]["reason"]) == ("error", reason)


@pytest.mark.parametrize(
    ("text", "reason", "code"),
    [
        (token(lasts=-60), "expired", 4401),
        (token(nbf=time.time() + 600), "not_yet_valid", 4401),
        (token(secret="x" * 64), "bad_signature", 4401),
        (token(aud="others"), "wrong_audience", 4503),
        (token(exp=None), "bad_claims", 4503),
        (token(None), "bad_claims", 4503),
        (token(lasts=90_000), "too_long_lived", 4503),
        (token(algorithm="none"), "wrong_algorithm", 4503),
        (token(algorithm="RS256"), "wrong_algorithm", 4503),
        ("garbage", "malformed", 4503),
        ("x" * 9000, "too_long", 4503),
    ],
)
async def test_a_token_that_does_not_count_is_refused_and_python_does_not_hear_of_it(
    text: str, reason: str, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    app = application()
    came: list[Client] = []
    app.on_connect(came.append)
    caplog.set_level(logging.DEBUG, "umbel")
    async with app.serve(port=0) as server:
        error = "unauthenticated" if code == 4401 else "bad_token"
        assert await refused(server, additional_headers=bearer(text)) == (error, reason, code)
        await until(lambda: server.stats().connections == 0)
        assert came == []
    lines = caplog.text
    assert f"with {code}" in lines
    assert text not in lines


async def test_clients_come_while_python_is_blocked() -> None:
    app = Umbel(auth=secret())
    app.channel("news", open=True)
    heard: list[Any] = []

    async def come(server: Server) -> None:
        async with wire(server, additional_headers=bearer(token())) as client:
            await client.say("subscribe_updates", channel="news")
            heard.append(await client.hear())

    async with app.serve(port=0) as server:
        thread = threading.Thread(target=lambda: asyncio.run(come(server)))
        thread.start()
        thread.join()  # the loop of the server waits, and with it all of its Python
        assert [message["type"] for message in heard] == ["subscription_established"]


# Sessions


async def test_a_session_is_had_again_without_a_token_until_that_has_expired() -> None:
    async with application(secret(leeway=0)).serve(port=0) as server:
        async with opened(server) as first:
            await first.say("authenticate", token=token("ann", lasts=60))
            first.greeting = await first.hear("connection_established")
            await cut(first)
        async with resumed(server, first, 1) as client:
            assert client.greeting["resumed"] is True
            await cut(client)
        core = server._core
        assert core is not None
        core.advance_clock(61)
        async with opened(server) as late:
            await late.say("resume", session=first.greeting["session"]["token"], attempt=2, positions={})
            [error], code, _ = await end(late.connection)
            assert (error["details"]["reason"], code) == ("missing", 4401)
        # Its session waits for a better one.
        text = token("ann", issued=time.time() + 61, role="owner")
        async with resumed(server, first, 3, token=text) as client:
            assert client.greeting["resumed"] is True
            await client.say("who", id=1)
            assert (await client.hear("who_result"))["data"][1]["role"] == "owner"


async def test_a_session_is_for_the_same_subject_only() -> None:
    async with application().serve(port=0) as server:
        async with opened(server) as first:
            await first.say("authenticate", token=token("ann"))
            first.greeting = await first.hear("connection_established")
            await cut(first)
        async with resumed(server, first, 1, token=token("bob")) as other:
            assert (other.greeting["resumed"], other.greeting["reason"]) == (False, "subject")
            assert other.greeting["subject"] == "bob"
        async with opened(server) as late:
            await late.say(
                "resume",
                session=first.greeting["session"]["token"],
                attempt=2,
                positions={},
                token=token(lasts=-60),
            )
            [error], code, _ = await end(late.connection)
            assert (error["details"]["reason"], code) == ("expired", 4401)
        async with resumed(server, first, 3) as client:
            assert client.greeting["resumed"] is True


async def test_resume_authenticate_wants_a_token_each_time() -> None:
    async with application().serve(port=0, resume="authenticate") as server:
        async with opened(server) as first:
            await first.say("authenticate", token=token("ann"))
            first.greeting = await first.hear("connection_established")
            await cut(first)
        async with opened(server) as late:
            await late.say("resume", session=first.greeting["session"]["token"], attempt=1, positions={})
            [error], code, _ = await end(late.connection)
            assert (error["details"]["reason"], code) == ("missing", 4401)
        async with resumed(server, first, 2, token=token("ann")) as client:
            assert client.greeting["resumed"] is True


# Limits, and what applications see


async def attempt(server: Server, path: str = "/ws", subject: str = "ann") -> list[str]:
    """The types of the messages that a client hears, and its close code if it is not let in."""
    url = server.url.replace("http", "ws") + path
    async with connect(url, proxy=None, additional_headers=bearer(token(subject))) as connection:
        try:
            first = await asyncio.wait_for(connection.recv(), 5)
        except ConnectionClosed:
            return [str(connection.close_code)]
        if first == subject:
            return ["let in"]
        kind = json.loads(first)["type"]
        if kind != "error":
            return [kind]
        messages, code, _ = await end(connection)
        return [json.loads(first)["code"], *(message["type"] for message in messages), str(code)]


@pytest.mark.parametrize("shards", [1, 3])
async def test_a_client_too_many_of_a_subject_is_not_let_in(shards: int) -> None:
    app = application(max_connections_per_identity=2, shards=shards)
    came: list[str] = []
    app.on_connect(lambda client: came.append(client.identity.subject))
    async with app.serve(port=0) as server:
        async with (
            wire(server, additional_headers=bearer(token("ann"))),
            stream(server, f"{PATH}/news", bearer(token("ann"))) as news,
        ):
            await news.hear("connected")
            assert await attempt(server) == ["limit_exceeded", "4429"]
            assert await attempt(server, "/echo") == ["4429"]
            async with stream(server, f"{PATH}/news", bearer(token("ann"))) as third:
                assert third.status == 200
                assert (await third.hear("closed")).data["code"] == 4429
            async with opened(server) as late:
                await late.say("authenticate", token=token("ann"))
                [error], code, _ = await end(late.connection)
                assert (error["code"], code) == ("limit_exceeded", 4429)
            assert await attempt(server, subject="bob") == ["connection_established"]
        await until(lambda: server.stats().connections == 0)
        # Their places are free again: one of a websocket path is as good as others.
        assert await attempt(server, "/echo") == ["let in"]
        await until(lambda: server.stats().connections == 0)
        assert await attempt(server) == ["connection_established"]
        assert came.count("ann") == 3
        assert came.count("bob") == 1


async def test_clients_of_a_subject_are_counted_while_python_is_blocked() -> None:
    async with Umbel(auth=secret(), max_connections_per_identity=1).serve(port=0) as server:
        heard: list[list[str]] = []

        async def come() -> None:
            async with wire(server, additional_headers=bearer(token("ann"))):
                heard.append(await attempt(server))

        thread = threading.Thread(target=lambda: asyncio.run(come()))
        thread.start()
        thread.join()  # the loop of the server waits
        assert heard == [["limit_exceeded", "4429"]]


@pytest.mark.parametrize("shards", [1, 3])
async def test_a_client_that_is_away_gives_way_to_others_of_its_subject(shards: int) -> None:
    app = application(max_connections_per_identity=1, shards=shards)
    async with app.serve(port=0) as server:
        async with opened(server) as first:
            await first.say("authenticate", token=token("ann"))
            first.greeting = await first.hear("connection_established")
            await cut(first)
        await until(lambda: server.stats().connections == 0)
        async with resumed(server, first, 1) as again:
            assert again.greeting["resumed"] is True, "it has its place"
            assert await attempt(server) == ["limit_exceeded", "4429"]
            # A connection of the same session takes its place.
            async with resumed(server, first, 2) as taken:
                assert taken.greeting["resumed"] is True
                await cut(taken)
        await until(lambda: server.stats().connections == 0)
        async with wire(server, additional_headers=bearer(token("ann"))):
            codes: list[int] = []
            while 4401 not in codes:  # its session is gone, so it would have to show a token
                async with opened(server) as late:
                    session = first.greeting["session"]["token"]
                    attempt_number = 3 + len(codes)
                    await late.say("resume", session=session, attempt=attempt_number, positions={})
                    codes.append((await end(late.connection))[1])
            assert set(codes) <= {4401, 4429}


async def test_an_application_that_has_no_function_for_clients_is_not_told_of_them() -> None:
    app = Umbel(auth=secret())
    app.channel("news", open=True)
    async with app.serve(port=0) as server, wire(server, additional_headers=bearer(token())) as client:
        assert client.greeting["subject"] == "ann"
        with pytest.raises(RuntimeError, match="does not tell"):
            app.clients()


async def test_an_application_under_test_has_identities_and_tokens() -> None:
    app = application()
    async with testing.connect(app, identity=Identity("ben", {"role": "guest"})) as ben:
        assert (await ben.request("who"))[:2] == ["ben", {"role": "guest"}]
        async with testing.connect(app, token=token("ann")) as ann:
            assert (await ann.request("who"))[0] == "ann"
        with pytest.raises(umbel.ConnectionClosed, match="expired"):
            async with testing.connect(app, token=token("ann", lasts=-60)):
                pass


# Declarations


def test_auth_and_an_authenticate_function_exclude_each_other() -> None:
    app = Umbel(auth=secret())
    with pytest.raises(ConfigurationError, match="remove one of the two"):

        @app.authenticate
        def who(request: Request) -> str:
            return "ann"

    with pytest.raises(TypeError, match="write auth=JWT"):
        Umbel(auth=SECRET)  # type: ignore[arg-type]


async def test_a_cookie_and_pages_of_all_sites_exclude_each_other() -> None:
    app = Umbel(auth=secret(cookie="login"), origins="*")
    with pytest.raises(ConfigurationError, match="list the origins of your own pages"):
        await app.serve(port=0).__aenter__()
    for other in (Umbel(auth=secret(), origins="*"), Umbel(auth=secret(cookie="login"), origins=[])):
        async with other.serve(port=0):
            pass


async def test_claims_need_somebody_who_has_them() -> None:
    app = Umbel()
    app.channel("task:{x}", claims=True)
    with pytest.raises(ConfigurationError, match="no client has claims"):
        await app.serve(port=0).__aenter__()


def test_keys_are_never_shown(tmp_path: pathlib.Path) -> None:
    auth = JWT(keys={"a": SECRET, "b": SECRET[::-1]}, algorithms=["HS256", "HS384"])
    assert repr(auth) == "<JWT HS256, HS384>"
    app = Umbel(auth=auth)
    assert app.auth is auth
    for text in (repr(app.settings), repr(auth._verifier), repr(vars(auth)), str(app.settings.to_json())):
        assert SECRET not in text


def test_what_can_not_be_is_refused_with_advice(tmp_path: pathlib.Path) -> None:
    for options, error, advice in [
        ({}, TypeError, "exactly one"),
        ({"key": SECRET, "keys": {"a": SECRET}}, TypeError, "exactly one"),
        ({"key": 7}, TypeError, "key must be a str or bytes, not int"),
        ({"keys": {"a": None}}, TypeError, "key 'a' must be"),
        ({"key": SECRET, "algorithms": "HS256"}, TypeError, r"write algorithms=\['HS256'\]"),
        ({"key": SECRET, "algorithms": []}, ValueError, "name the algorithms"),
        ({"key": SECRET, "algorithms": ["none"]}, ValueError, '"none" is no algorithm'),
        ({"key": "short"}, ValueError, "token_urlsafe"),
        ({"keys": {"a": SECRET, "b": RSA}}, ValueError, 'key "b": .* public key'),
        ({"key": SECRET, "leeway": 61}, ValueError, "leeway must be"),
        ({"key": SECRET, "leeway": -1}, ValueError, "leeway must be a number of seconds, not -1"),
        ({"key": SECRET, "leeway": "10"}, TypeError, "leeway must be a number of seconds, not str"),
        ({"key": SECRET, "max_lifetime": float("inf")}, ValueError, "max_lifetime must be .* not inf"),
        ({"key": SECRET, "max_lifetime": True}, TypeError, "max_lifetime must be .* not bool"),
        ({"key": SECRET, "audience": ""}, ValueError, "audience is empty"),
        ({"key": SECRET, "issuer": []}, ValueError, "issuer is empty"),
        ({"key": SECRET, "issuer": [b"a"]}, TypeError, "issuer must be a str, not bytes"),
        ({"key": SECRET, "algorithms": [256]}, TypeError, "each of algorithms must be a str"),
        ({"key": SECRET, "cookie": 7}, TypeError, "cookie must be a str"),
        ({"keys": [SECRET]}, TypeError, "a name for each key"),
        ({"keys": {1: SECRET}}, TypeError, "each name in keys must be a str"),
        ({"jwks_file": tmp_path / "none"}, FileNotFoundError, "none"),
    ]:
        with pytest.raises(error, match=advice):  # type: ignore[arg-type]
            JWT(**{"algorithms": ["HS256"], **options})  # type: ignore[arg-type]


def test_a_set_of_keys_is_read_from_a_file(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(
        '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
    )
    assert repr(JWT(jwks_file=file, algorithms=["EdDSA"])) == "<JWT EdDSA>"
    with pytest.raises(ValueError, match="no key for these"):
        JWT(jwks_file=file, algorithms=["RS256"])


def test_an_identity_is_what_the_token_says() -> None:
    identity = secret(audience=["chat"]).verify(token("ann", aud="chat", exp=time.time() + 60.5))
    assert (identity.subject, identity.claims["aud"]) == ("ann", "chat")
    assert identity.expires == pytest.approx(time.time() + 60.5, abs=5)
    with pytest.raises(ValueError, match="the token is for another audience"):
        secret(audience="else").verify(token("ann", aud="chat"))


def test_the_reasons_are_those_of_the_core() -> None:
    table = rows((ROOT / "docs" / "protocol.md").read_text(), "| `reason` | what is wrong | close code |")
    assert [(words(name)[0], text, int(code)) for name, text, code in table] == _core.TOKEN_ERRORS


def test_no_page_shows_a_token_in_a_url() -> None:
    for page in PAGES:
        assert "?token=" not in page.read_text(), page

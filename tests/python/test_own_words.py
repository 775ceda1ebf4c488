"""What an application says in its own words, and publishes in a client's name."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from looping import on_loops
from umbel import Client, ConfigurationError, Message, Rejected, Umbel
from wire import Wire, wire


async def outcome(client: Wire) -> tuple[str, Any]:
    error = await client.hear("error")
    return error["code"], error.get("details")


@on_loops
async def test_a_rejection_arrives_as_it_was_said_and_leaves_no_line_in_the_log(
    app: Umbel, caplog: pytest.LogCaptureFixture
) -> None:
    @app.on("save")
    async def save(client: Client, message: Message) -> None:
        raise Rejected("conflict", "somebody was faster", details={"version": 7})

    def may_publish(client: Client, name: str, data: Any) -> bool:
        raise Rejected("too_late", details=["x"])

    @app.channel("doc:{name}", publish=may_publish)
    def may_read(client: Client, name: str) -> bool:
        raise Rejected("no_seats_left")

    async with app.serve(port=0) as server, wire(server) as client:
        for number in range(30):  # it is no fault of the client, so it does not count
            await client.say("save", id=number)
            error = await client.hear("error")
            assert (error["id"], error["code"], error["message"], error["details"]) == (
                number,
                "conflict",
                "somebody was faster",
                {"version": 7},
            )
            await client.say("subscribe_updates", channel="doc:a", id=number)
            error = await client.hear("error")
            assert (error["id"], error["code"], error["channel"]) == (number, "no_seats_left", "doc:a")
        await client.say("publish", channel="doc:a", data=1)
        assert await outcome(client) == ("too_late", ["x"])
    assert not [record for record in caplog.records if record.levelname != "INFO"]


@pytest.mark.parametrize("details", [{1, 2}, {"x": object()}, "\ud800"])
def test_details_that_are_no_json_are_refused_where_they_are_written(details: Any) -> None:
    with pytest.raises(TypeError):
        Rejected("conflict", details=details)
    with pytest.raises(TypeError):
        Rejected("conflict", "\ud800")


@on_loops
async def test_details_that_are_spoilt_afterwards_cost_one_answer_and_not_the_client(app: Umbel) -> None:
    @app.on("save")
    async def save(client: Client, message: Message) -> None:
        details: list[Any] = []
        rejection = Rejected("conflict", details=details)
        details.append(object())
        raise rejection

    async with app.serve(port=0, max_running=2) as server, wire(server) as client:
        for number in range(4):
            await client.say("save", id=number)
            assert (await client.hear("error"))["code"] == "internal"


@on_loops
async def test_a_decorated_publish_function_is_called_as_the_function_below_wants(app: Umbel) -> None:
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            return function(*arguments, **keywords)

        return call

    @logged
    def without(client: Client, data: Any) -> bool:
        return True

    @logged
    def with_key(client: Client, data: Any, key: str | None) -> bool:
        return key == "mine"

    app.channel("plain", open=True, publish=without)
    app.channel("keyed", open=True, publish=with_key)
    with pytest.raises(ConfigurationError, match="parameter `key`"):
        app.channel("cursors", open=True, mode="latest", publish=without)
    async with app.serve(port=0) as server, wire(server) as client:
        await client.say("publish", channel="plain", data=1)
        await client.hear("published")
        await client.say("publish", channel="keyed", data=1, key="mine")
        await client.hear("published")


@pytest.mark.parametrize(
    "form", ["method", "partial", "partial of a decorated", "object", "decorated object"]
)
@on_loops
async def test_whether_a_publish_function_wants_the_key_is_seen_through_all_forms(
    app: Umbel, form: str
) -> None:
    seen: list[Any] = []

    def passing_on(function: Any) -> Any:
        return functools.wraps(function)(lambda *arguments, **keywords: function(*arguments, **keywords))

    def without(extra: Any, client: Client, data: Any) -> bool:
        seen.append(data)
        return True

    def with_key(extra: Any, client: Client, data: Any, key: str | None) -> bool:
        seen.append(key)
        return True

    def made(function: Any) -> Any:
        plain = type("Plain", (), {"__call__": function})
        decorated = type("Decorated", (), {"__call__": passing_on(function)})
        return {
            "method": plain().__call__,
            "partial": functools.partial(function, 1),
            "partial of a decorated": functools.partial(passing_on(function), 1),
            "object": plain(),
            "decorated object": decorated(),
        }[form]

    app.channel("plain", open=True, publish=made(without))
    app.channel("keyed", open=True, publish=made(with_key), mode="latest")
    with pytest.raises(ConfigurationError, match="parameter `key`"):
        app.channel("cursors", open=True, mode="latest", publish=made(without))
    async with app.serve(port=0) as server, wire(server) as client:
        for channel in ("plain", "keyed"):
            await client.say("publish", channel=channel, data=1, key="k")
            assert (await client.hear())["type"] == "published"
        assert seen == [1, "k"]


def test_a_rejection_has_a_size(app: Umbel) -> None:
    assert Rejected("no", details="x" * 65_000).details == "x" * 65_000
    for message, details in (("x" * (64 << 10), None), ("", "x" * (64 << 10)), ("x" * 40_000, "x" * 40_000)):
        with pytest.raises(ValueError, match="at most 65536"):
            Rejected("no", message, details=details)


@on_loops
async def test_a_key_that_can_not_be_one_is_refused_at_the_call(app: Umbel) -> None:
    app.channel("cursors", open=True, mode="latest")

    @app.on("try")
    def attempt(client: Client, message: Message) -> str:
        for publish in (lambda key: app.publish("cursors", 1, key=key), lambda key: client.send(1, key=key)):
            for key in (5, b"k", ["k"]):
                with pytest.raises(TypeError):
                    publish(key)
            for key in ("x" * 256, "\ud800"):
                with pytest.raises(ValueError):
                    publish(key)
        return "refused"

    async with app.serve(port=0) as server, wire(server) as client:
        await client.say("try")
        assert (await client.hear("try_result"))["data"] == "refused"
        assert server.stats().published == 0


@pytest.mark.parametrize("code", ["", "a b", "x" * 65, "bad_message", "answer_lost", "id_reused", "ä"])
def test_codes_of_the_protocol_can_not_be_taken(code: Any) -> None:
    with pytest.raises(ValueError, match="code"):
        Rejected(code)


@on_loops
async def test_a_publish_function_sees_the_key_and_may_publish_something_else(app: Umbel) -> None:
    def stamped(client: Client, data: Any, key: str | None) -> bool | dict[str, Any]:
        if key != client.id:
            return False
        return {"author": client.id, "text": data}

    app.channel("cursors", open=True, mode="latest", publish=stamped)
    async with app.serve(port=0) as server, wire(server) as one, wire(server) as two:
        await two.say("subscribe_updates", channel="cursors")
        await two.hear("subscription_established")
        own = one.greeting["clientId"]
        await one.say("publish", channel="cursors", data="hello", key=own)
        assert (await one.hear("published"))["offset"] == 1
        assert (await two.hear("update"))["data"] == {"author": own, "text": "hello"}
        await one.say("publish", channel="cursors", data="mine now", key=two.greeting["clientId"])
        assert (await outcome(one))[0] == "not_allowed"


def test_in_a_channel_of_the_latest_values_the_key_must_be_looked_at(app: Umbel) -> None:
    with pytest.raises(ConfigurationError, match="parameter `key`"):
        app.channel("cursors", open=True, mode="latest", publish=lambda client, data: True)


async def forgotten() -> bool:
    return True


ANSWERS: list[Any] = [None, 0, 1, "yes", b"{}", ("a", 1), 1.5, object(), {"x": object()}, ["x" * (17 << 20)]]


@on_loops
async def test_what_is_neither_yes_nor_no_nor_data_is_an_error_that_the_log_has(
    app: Umbel, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [*ANSWERS, forgotten]
    app.channel("a", open=True, publish=lambda client, data: answers[data])
    async with app.serve(port=0) as server, wire(server) as client:
        for number in range(len(answers)):
            await client.say("publish", channel="a", data=number, id=number)
            error = await client.hear("error")
            assert (error["code"], error["id"]) == ("internal", number)
        assert server.stats().published == 0
    failures = [record for record in caplog.records if "publish function of channel 'a'" in record.message]
    assert len(failures) == len(answers)


@on_loops
async def test_an_update_names_the_client_that_published_it_where_that_is_wanted(app: Umbel) -> None:
    app.authenticate(lambda request: request.query["user"])

    def stamped(client: Client, data: Any, key: str | None = None) -> bool | list[Any]:
        return [data, key] if data == "stamp" else True

    app.channel("told", open=True, publish=True, sender=True)
    app.channel("asked", open=True, publish=stamped, sender=True, mode="latest")
    app.channel("untold", open=True, publish=True)
    names = ("told", "asked", "untold")
    async with (
        app.serve(port=0) as server,
        wire(server, "/ws?user=ann") as ann,
        wire(server, "/ws?user=b%22en") as ben,
    ):
        for reader in (ann, ben):
            await reader.say("subscribe_updates", channels=names)
            for _ in names:
                await reader.hear("subscription_established")
        seen = []
        for client, data in ((ann, 1), (ben, {"sender": "ann"}), (ann, "stamp")):
            for name in names:
                await client.say("publish", channel=name, data=data)
                await client.hear("published")
                update = await ben.hear("update")
                seen.append((update["channel"], update["data"], update.get("sender")))
        from_ann = {"clientId": ann.greeting["clientId"], "subject": "ann"}
        from_ben = {"clientId": ben.greeting["clientId"], "subject": 'b"en'}
        assert seen == [
            *(("told", 1, from_ann), ("asked", 1, from_ann), ("untold", 1, None)),
            *((name, {"sender": "ann"}, from_ben) for name in ("told", "asked")),
            ("untold", {"sender": "ann"}, None),
            *(("told", "stamp", from_ann), ("asked", ["stamp", None], from_ann), ("untold", "stamp", None)),
        ]
        app.publish("told", "from the application")
        update = await ben.hear("update")
        assert (update["data"], "sender" in update) == ("from the application", False)


@on_loops
async def test_an_anonymous_sender_has_no_subject(app: Umbel) -> None:
    app.channel("told", open=True, publish=True, sender=True)
    async with app.serve(port=0) as server, wire(server) as client:
        await client.say("subscribe_updates", channel="told")
        await client.say("publish", channel="told", data=1)
        sender = (await client.hear("update"))["sender"]
        assert sender == {"clientId": client.greeting["clientId"], "subject": None}


def test_updates_can_not_name_a_sender_where_no_client_may_publish(app: Umbel) -> None:
    with pytest.raises(ConfigurationError, match="sender=True needs publish="):
        app.channel("a", open=True, sender=True)
    with pytest.raises(ConfigurationError, match="sender must be True or False"):
        app.channel("a", open=True, publish=True, sender="yes")  # type: ignore[arg-type]

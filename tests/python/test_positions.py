"""Where a subscription begins, and what a client is told about it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from looping import on_loops
from umbel import Client, Message, Umbel
from wire import Wire, wire


async def subscribe(client: Wire, channel: str, **fields: Any) -> dict[str, Any]:
    """The answer, without what is always in it."""
    await client.say("subscribe_updates", channel=channel, **fields)
    answer = await client.hear("subscription_established")
    return {name: answer[name] for name in answer if name not in ("type", "channel", "epoch")}


async def offsets(client: Wire, count: int) -> list[int]:
    return [(await client.hear("update"))["offset"] for _ in range(count)]


@on_loops
async def test_a_client_is_told_exactly_what_it_has_missed(app: Umbel) -> None:
    app.channel("a", open=True, history=5)
    async with app.serve(port=0) as server, wire(server) as client:
        for number in range(12):
            app.publish("a", number)
        assert await subscribe(client, "a") == {"offset": 12, "top": 12}
        epoch = client.epochs["a"]
        for asked, offset, reason in [
            (12, 12, None),
            (9, 9, None),
            (7, 7, None),
            (6, 7, "trimmed"),
            (0, 7, "trimmed"),
            (13, 12, "ahead"),
            ((1 << 53) - 1, 12, "ahead"),
        ]:
            outcome = {"recovered": False, "reason": reason} if reason else {"recovered": True}
            async with wire(server) as other:
                answer = await subscribe(other, "a", epoch=epoch, offset=asked)
                assert answer == {"offset": offset, "top": 12, **outcome}
                assert await offsets(other, 12 - offset) == list(range(offset + 1, 13))
        for foreign in ("0123456789abcdef", "", "x" * 500):
            async with wire(server) as other:
                expected = {"offset": 12, "top": 12, "recovered": False, "reason": "epoch"}
                assert await subscribe(other, "a", epoch=foreign, offset=3) == expected


@on_loops
async def test_a_position_at_the_top_is_recovered_whatever_is_left_of_the_log(app: Umbel) -> None:
    app.channel("empty", open=True)
    app.channel("short", open=True, history_seconds=1)
    async with app.serve(port=0) as server, wire(server) as client:
        app.publish("short", "gone in a second")
        for channel, top in (("empty", 0), ("short", 1)):
            await subscribe(client, channel)
            if top:
                async with asyncio.timeout(20):
                    while (await app.history(channel)).publications:
                        await asyncio.sleep(0.1)
            async with wire(server) as other:
                answer = await subscribe(other, channel, epoch=client.epochs[channel], offset=top)
                assert answer == {"offset": top, "top": top, "recovered": True}


@on_loops
async def test_who_is_subscribed_stays_where_it_is(app: Umbel) -> None:
    app.channel("a", open=True)
    async with app.serve(port=0) as server, wire(server) as client:
        app.publish("a", 1)
        assert await subscribe(client, "a") == {"offset": 1, "top": 1}
        again = {"offset": 1, "top": 1, "existing": True}
        assert await subscribe(client, "a") == again
        assert await subscribe(client, "a", epoch=client.epochs["a"], offset=0) == again
        assert await subscribe(client, "a", restart=False) == again


@on_loops
async def test_a_subscription_begins_anew_and_nobody_is_asked(app: Umbel) -> None:
    asked: list[str] = []

    @app.channel("a:{x}")
    def guard(client: Client, x: str) -> bool:
        asked.append(x)
        return len(asked) == 1

    async with app.serve(port=0) as server, wire(server) as client:
        for number in range(4):
            app.publish("a:1", number)
        assert await subscribe(client, "a:1", restart=True) == {"offset": 4, "top": 4}
        epoch = client.epochs["a:1"]
        answer = await subscribe(client, "a:1", restart=True, epoch=epoch, offset=2)
        assert answer == {"offset": 2, "top": 4, "recovered": True}
        assert await offsets(client, 2) == [3, 4]
        assert await subscribe(client, "a:1", restart=True) == {"offset": 4, "top": 4}
        answer = await subscribe(client, "a:1", restart=True, epoch="elsewhere", offset=2)
        assert answer == {"offset": 4, "top": 4, "recovered": False, "reason": "epoch"}
        app.publish("a:1", "next")
        assert await offsets(client, 1) == [5]
        assert asked == ["1"]
        await client.say("subscribe_updates", channel="a:2", restart=True)
        assert (await client.hear("error"))["code"] == "not_allowed"
        assert server.stats().subscriptions == 1


@on_loops
async def test_many_that_begin_anew_within_a_tick_get_everything_once_after_the_last(app: Umbel) -> None:
    app.channel("{x}", open=True)
    async with app.serve(port=0) as server, wire(server) as client:
        channels = ["a", "b", "c"]
        for number in range(200):
            for channel in channels:
                app.publish(channel, number)
        await client.say("subscribe_updates", channels=channels)
        for _ in channels:
            await client.hear("subscription_established")
        for offset in range(50):
            for channel in channels:
                fields = {"channel": channel, "epoch": client.epochs[channel], "offset": offset}
                await client.say("subscribe_updates", restart=True, id=offset, **fields)
        positions: dict[str, int] = {}
        last: dict[str, int] = {}
        while last != dict.fromkeys(channels, 49) or min(positions.values()) < 200:
            message = await client.hear()
            channel = message["channel"]
            if message["type"] == "subscription_established":
                positions[channel] = last[channel] = message["offset"]
            else:
                assert (message["type"], message["offset"]) == ("update", positions[channel] + 1)
                positions[channel] += 1


@on_loops
@pytest.mark.parametrize(
    "fields",
    [
        {"channel": "a", "offset": 0},
        {"channel": "a", "epoch": "0123456789abcdef"},
        {"channel": "a", "epoch": "0123456789abcdef", "offset": 1 << 53},
        {"channel": "a", "epoch": "0123456789abcdef", "offset": -1},
        {"channel": "a", "epoch": None, "offset": 1},
        {"channels": ["a", "b"], "epoch": "0123456789abcdef", "offset": 1},
        {"channel": "a", "restart": "true"},
    ],
)
async def test_half_a_position_or_one_for_several_channels_is_a_bad_message(
    app: Umbel, fields: dict[str, Any]
) -> None:
    app.channel("{x}", open=True)
    async with app.serve(port=0) as server, wire(server) as client:
        await client.say("subscribe_updates", **fields)
        assert (await client.hear())["code"] == "bad_message"
        assert server.stats().subscriptions == 0


@on_loops
async def test_direct_messages_begin_with_the_first_and_ask_for_no_position(app: Umbel) -> None:
    @app.on("me")
    async def me(client: Client, message: Message) -> None:
        for number in range(3):
            client.send(number)

    async with app.serve(port=0, max_subscriptions=1) as server, wire(server) as client:
        await client.say("me")
        established = await client.hear("subscription_established")
        assert (established["offset"], "recovered" in established) == (0, False)
        assert await offsets(client, 3) == [1, 2, 3]


@on_loops
@pytest.mark.parametrize(("mode", "expected"), [("all", [8, 9, 10, 11, 12]), ("latest", [10, 11, 12])])
async def test_a_newcomer_gets_what_the_channel_still_has(app: Umbel, mode: Any, expected: list[int]) -> None:
    app.channel("a", open=True, history=5, mode=mode, replay="start")
    async with app.serve(port=0) as server, wire(server) as client:
        assert await subscribe(client, "a") == {"offset": 0, "top": 0}
        for number in range(12):
            app.publish("a", number, key=str(number % 3))
        async with asyncio.timeout(10):
            # What the first reader was not offered yet is kept, too.
            while len((await app.history("a")).publications) > 5:
                await asyncio.sleep(0.01)
        for restart in (False, True):
            async with wire(server) as other:
                if restart:
                    await subscribe(other, "a", epoch=client.epochs["a"], offset=12)
                begun = await subscribe(other, "a", restart=restart)
                first = expected[0] - 1 if mode == "all" else begun["offset"]
                assert begun == {"offset": first, "top": 12}
                assert await offsets(other, len(expected)) == expected
        async with wire(server) as other:
            answer = await subscribe(other, "a", epoch="elsewhere", offset=3)
            assert (answer["recovered"], answer["reason"]) == (False, "epoch")
            assert await offsets(other, len(expected)) == expected


@on_loops
async def test_newcomers_to_several_channels_get_what_each_still_has(app: Umbel) -> None:
    app.channel("{x}", open=True, history=100, replay="start")
    async with app.serve(port=0) as server:
        channels = [f"c{number}" for number in range(20)]
        for channel in channels:
            for number in range(150):
                app.publish(channel, number)
        async with wire(server) as client:
            await client.say("subscribe_updates", channels=channels)
            got: dict[str, list[int]] = {channel: [] for channel in channels}
            for _ in range(len(channels) * 100):
                update = await client.hear("update")
                got[update["channel"]].append(update["data"])
            assert all(it == list(range(50, 150)) for it in got.values())
            assert server.stats().gaps == 0


@on_loops
async def test_an_application_tells_a_client_from_where_to_follow(app: Umbel) -> None:
    app.channel("board:{x}", open=True)

    @app.on("open_board")
    async def open_board(client: Client, message: Message) -> dict[str, Any]:
        position = await app.position("board:1")
        app.publish("board:1", "meanwhile")
        return {"epoch": position.epoch, "offset": position.offset}

    async with app.serve(port=0) as server, wire(server) as client:
        for top in range(2):
            await client.say("open_board")
            position = (await client.hear("open_board_result"))["data"]
            assert position["offset"] == top
            answer = await subscribe(client, "board:1", restart=True, **position)
            assert answer == {"offset": top, "top": top + 1, "recovered": True}
            assert await offsets(client, 1) == [top + 1]
        for name in ("", "@me", "x" * 256):
            with pytest.raises(ValueError, match="channel"):
                await app.position(name)
    with pytest.raises(RuntimeError):
        await app.position("board:1")

"""Runs: gathering, ends, cancelling, and who may see them."""

import asyncio
import gc

import pytest
from looping import settle, virtual
from umbel._dispatching.runs import MOST_ENDED, RUN_KEPT

TICK = 0.016


def chunks(core):
    return [data["chunk"] for data in core.of_type("ai_response_chunk")]


def end(core):
    (data,) = core.of_type("ai_response_end")
    return data


@virtual
async def test_the_first_chunk_leaves_at_once_and_later_ones_together_per_tick(app, bench):
    @app.stream("ask")
    async def answer(run, message):
        for piece in "abcdefgh":
            yield piece
            await asyncio.sleep(0.005)

    umbel = bench(tick=TICK)
    umbel.core.open()
    umbel.core.message(1, "ask", data={"conversationId": "k"})
    await umbel.run()
    assert chunks(umbel.core) == ["a"]
    await asyncio.sleep(1)
    assert chunks(umbel.core) == ["a", "bcd", "efg", "h"]
    assert "".join(chunks(umbel.core)) == "abcdefgh"


@virtual
async def test_after_a_quiet_tick_the_next_piece_leaves_at_once(app, bench):
    times = []

    @app.stream("ask")
    async def answer(run, message):
        for piece in "ab":
            yield piece
            times.append(len(chunks(umbel.core)))
            await asyncio.sleep(10)

    umbel = bench(tick=TICK)
    umbel.core.open()
    umbel.core.message(1, "ask")
    await umbel.run()
    await asyncio.sleep(30)
    assert times == [1, 2]


@virtual
async def test_a_run_has_a_start_chunks_and_an_end_in_its_own_channel(app, bench):
    @app.stream("ask")
    async def answer(run, message):
        assert run.conversation_id == "k"
        yield f"about {message.data['prompt']}"

    umbel = bench(tick=TICK)
    umbel.core.open()
    umbel.core.message(1, "ask", id="q", data={"conversationId": "k", "prompt": "tea"})
    await umbel.run()
    ((key, channel, request),) = umbel.core.named("subscribe")
    assert (key, request) == (1, b'"q"')
    run_id = channel.removeprefix("run:")
    assert len(run_id) == 32
    assert [name for name, _, _ in umbel.core.published] == [channel] * 3
    common = {"conversationId": "k", "runId": run_id}
    assert [data for _, data, _ in umbel.core.published] == [
        {"type": "ai_response_start", **common},
        {"type": "ai_response_chunk", **common, "chunk": "about tea"},
        {"type": "ai_response_end", **common, "status": "complete"},
    ]
    assert umbel.replies == []


@virtual
async def test_a_generator_that_never_waits_does_not_hold_up_the_loop(app, bench):
    @app.stream("ask")
    async def answer(run, message):
        while True:
            yield "x"

    umbel = bench(tick=0.0)
    umbel.core.open()
    umbel.core.message(1, "ask")
    await umbel.run()
    assert chunks(umbel.core)
    umbel.runs.stop()
    await settle()
    assert end(umbel.core)["status"] == "cancelled"


@virtual
async def test_a_failing_generator_ends_with_error_after_its_text(app, bench, caplog):
    @app.stream("ask")
    async def answer(run, message):
        yield "so far"
        yield " so good"
        raise RuntimeError("secret")

    umbel = bench(tick=TICK)
    umbel.core.open()
    umbel.core.message(1, "ask")
    await umbel.run()
    assert "".join(chunks(umbel.core)) == "so far so good"
    assert end(umbel.core)["status"] == "error"
    assert end(umbel.core)["incident"] in caplog.text
    assert "RuntimeError: secret" in caplog.text
    assert "secret" not in str(umbel.core.published)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), RecursionError()])
def test_any_error_of_a_generator_ends_its_run_only(app, bench, caplog, error):
    @app.stream("ask")
    async def answer(run, message):
        yield "x"
        raise error

    @virtual
    async def scenario():
        umbel = bench()
        umbel.core.open()
        umbel.core.message(1, "ask")
        await umbel.run()
        assert end(umbel.core)["status"] == "error"
        assert umbel.interrupts == isinstance(error, KeyboardInterrupt)

    scenario()


@pytest.mark.parametrize("pieces", [["\ud83d"], ["so far ", "\ud83d"], ["so far ", "\ud83d", "more"]])
def test_text_that_can_not_be_encoded_ends_its_run_with_error_after_what_came_before(
    app, bench, caplog, pieces
):
    @app.stream("ask")
    async def answer(run, message):
        for piece in pieces:
            yield piece

    @virtual
    async def scenario():
        umbel = bench(max_runs=1)
        umbel.core.open()
        for _ in range(2):  # the first has given back its place
            umbel.core.published.clear()
            umbel.core.message(1, "ask")
            await umbel.run()
            assert chunks(umbel.core) == pieces[:-1][:1]
            assert end(umbel.core)["status"] == "error"
            assert end(umbel.core)["incident"] in caplog.text
        assert "surrogates not allowed" in caplog.text
        await umbel.dispatcher.shutdown(1.0)

    scenario()


@pytest.mark.parametrize("rest", ["tick", "end", "cancel", "stop"])
def test_a_run_ends_once_and_tells_so_when_its_text_can_not_be_published(
    app, bench, caplog, monkeypatch, rest
):
    @app.stream("ask")
    async def answer(run, message):
        yield "a"
        yield "too much"
        if rest != "end":
            await asyncio.sleep(1000)

    @virtual
    async def scenario():
        umbel = bench(max_runs=1)
        publish = umbel.core.publish

        def limited(channel, data, key=None):
            if b"too much" in data:
                raise ValueError("more than 16 MiB")
            return publish(channel, data, key)

        monkeypatch.setattr(umbel.core, "publish", limited)
        umbel.core.open()
        umbel.core.message(1, "ask")
        await umbel.run()
        ((run, *_),) = umbel.runs._unfinished.values() or ((None,),)
        if rest == "cancel":
            assert run.cancel() is True
        elif rest == "tick":
            await asyncio.sleep(1)
        await umbel.dispatcher.shutdown(1.0)
        assert end(umbel.core)["status"] == "error"
        assert end(umbel.core)["incident"] in caplog.text
        assert "stream 'ask' failed for <Client c1 anonymous>" in caplog.text
        assert "more than 16 MiB" in caplog.text
        assert umbel.runs._unfinished == {}
        assert umbel.slot().runs == {}
        assert umbel.tasks() == 0

    scenario()


@virtual
async def test_a_run_whose_end_can_not_be_published_holds_up_no_stop(app, bench, caplog, monkeypatch):
    @app.stream("ask")
    async def answer(run, message):
        yield "a"
        await asyncio.sleep(1000)

    umbel = bench()
    umbel.core.open()
    for _ in range(2):
        umbel.core.message(1, "ask")
    await umbel.run()

    def broken(channel, data, key=None):
        raise RuntimeError("no core")

    monkeypatch.setattr(umbel.core, "publish", broken)
    await umbel.dispatcher.shutdown(1.0)
    assert caplog.text.count("could not be published") == 2
    assert umbel.tasks() == 0


@pytest.mark.parametrize("error", [ValueError("cleanup"), RuntimeError("cleanup"), KeyboardInterrupt()])
def test_a_generator_that_fails_in_its_cleanup_is_logged(app, bench, caplog, error):
    @app.stream("ask")
    async def answer(run, message):
        try:
            yield "a"
            run.cancel()
            yield "b"
        finally:
            raise error

    @virtual
    async def scenario():
        umbel = bench()
        umbel.core.open()
        umbel.core.message(1, "ask")
        await umbel.run()
        gc.collect()
        assert end(umbel.core)["status"] == "cancelled"
        assert "never retrieved" not in caplog.text
        assert "stream 'ask' failed for <Client c1 anonymous>" in caplog.text
        assert umbel.interrupts == isinstance(error, KeyboardInterrupt)

    scenario()


@virtual
async def test_a_generator_that_yields_something_else_than_text_ends_with_error(app, bench, caplog):
    @app.stream("ask")
    async def answer(run, message):
        yield 42

    umbel = bench()
    umbel.core.open()
    umbel.core.message(1, "ask")
    await umbel.run()
    assert end(umbel.core)["status"] == "error"
    assert "a stream yields str, not int" in caplog.text


@virtual
async def test_cancelling_ends_the_run_at_once_and_cancels_the_generator(app, bench):
    cleaned = []

    @app.stream("ask")
    async def answer(run, message):
        try:
            yield "x"
            await asyncio.sleep(1000)
        finally:
            cleaned.append(True)

    umbel = bench()
    umbel.core.open()
    umbel.core.message(1, "ask")
    await umbel.run()
    run_id = end_id(umbel.core)
    umbel.core.message(1, "ai_cancel", id=1, runId=run_id)
    umbel.core.message(1, "ai_cancel", id=2, runId=run_id)
    await umbel.run()
    assert end(umbel.core)["status"] == "cancelled"
    assert [answer["data"] for answer in umbel.replies] == [{"cancelled": True}, {"cancelled": False}]
    assert cleaned == [True]


@virtual
async def test_a_run_is_cancelled_by_its_request_also_before_it_has_begun(app, bench):
    @app.stream("ask")
    async def answer(run, message):
        assert run.request_id == "a"
        yield "x"
        await asyncio.sleep(1000)

    umbel = bench()
    umbel.core.open(1)
    umbel.core.open(2)
    umbel.core.message(1, "ask", id="a")
    await umbel.run()
    umbel.core.message(2, "ai_cancel", id=1, request="a")
    umbel.core.message(1, "ai_cancel", id=2, request="b")
    umbel.core.message(1, "ai_cancel", id=3, data={"request": "a"})
    umbel.core.message(1, "ai_cancel", id=4, request="a")
    await umbel.run()
    assert [answer["data"]["cancelled"] for answer in umbel.replies] == [False, False, True, False]
    assert end(umbel.core)["status"] == "cancelled"


@virtual
async def test_a_generator_that_goes_on_after_its_cancellation_says_nothing_more(app, bench):
    @app.stream("ask")
    async def answer(run, message):
        yield "before"
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            yield "after"
        yield "and more"

    umbel = bench()
    umbel.core.open()
    umbel.core.message(1, "ask")
    await umbel.run()
    umbel.core.message(1, "ai_cancel", runId=end_id(umbel.core))
    await umbel.run()
    assert chunks(umbel.core) == ["before"]
    assert umbel.core.published[-1][1]["type"] == "ai_response_end"


@virtual
async def test_only_the_starter_of_a_run_may_cancel_or_read_it(app, bench):
    @app.authenticate
    def who(request):
        return request.query["user"]

    @app.stream("ask")
    async def answer(run, message):
        yield "x"
        await asyncio.sleep(1000)

    umbel = bench()
    umbel.core.open(1, query="user=ann")
    umbel.core.open(2, query="user=bob")
    umbel.core.open(3, query="user=ann")
    umbel.core.message(1, "ask")
    await umbel.run()
    run_id = end_id(umbel.core)
    umbel.core.ask_subscribe(2, 0, f"run:{run_id}", run_id)
    umbel.core.ask_subscribe(3, 0, f"run:{run_id}", run_id)
    umbel.core.ask_subscribe(3, 0, "run:other", "other")
    umbel.core.message(2, "ai_cancel", id=1, runId=run_id)
    await umbel.run()
    assert [call[2] for call in umbel.core.named("decide")] == [False, True, False]
    assert [answer["code"] for answer in umbel.replies] == ["not_allowed"]
    assert umbel.core.of_type("ai_response_end") == []
    umbel.core.message(3, "ai_cancel", runId=run_id)
    await umbel.run()
    assert end(umbel.core)["status"] == "cancelled"


@virtual
async def test_anonymous_clients_are_not_one_another(app, bench):
    @app.stream("ask")
    async def answer(run, message):
        yield "x"
        await asyncio.sleep(1000)

    umbel = bench()
    umbel.core.open(1)
    umbel.core.open(2)
    umbel.core.message(1, "ask")
    await umbel.run()
    run_id = end_id(umbel.core)
    umbel.core.ask_subscribe(2, 0, f"run:{run_id}", run_id)
    await umbel.run()
    assert umbel.core.named("decide")[0][2] is False


@pytest.mark.parametrize("fields", [{}, {"runId": 7}, {"data": "x"}, {"data": {"runId": None}}])
def test_ai_cancel_without_a_run_id_is_a_bad_message(app, bench, fields):
    @app.stream("ask")
    async def answer(run, message):
        yield "x"

    @virtual
    async def scenario():
        umbel = bench()
        umbel.core.open()
        umbel.core.message(1, "ai_cancel", id=1, **fields)
        await umbel.run()
        assert umbel.replies[0]["code"] == "bad_message"

    scenario()


@virtual
async def test_a_run_outlives_its_client_unless_the_stream_says_otherwise(app, bench):
    @app.stream("stay")
    async def stay(run, message):
        yield "x"
        await asyncio.sleep(10)

    @app.stream("leave", cancel_on_disconnect=True)
    async def leave(run, message):
        yield "y"
        await asyncio.sleep(10)

    umbel = bench()
    umbel.core.open()
    umbel.core.message(1, "stay")
    umbel.core.message(1, "leave")
    await umbel.run()
    umbel.core.closed(1)
    await umbel.run()
    assert [data["status"] for data in umbel.core.of_type("ai_response_end")] == ["cancelled"]
    await asyncio.sleep(20)
    assert [data["status"] for data in umbel.core.of_type("ai_response_end")] == ["cancelled", "complete"]


@virtual
async def test_a_client_has_a_bounded_number_of_runs(app, bench):
    @app.stream("ask")
    async def answer(run, message):
        yield "x"
        await asyncio.sleep(10)

    umbel = bench(max_runs=2)
    umbel.core.open()
    for number in range(3):
        umbel.core.message(1, "ask", id=number)
    await umbel.run()
    assert [(answer["code"], answer["id"]) for answer in umbel.replies] == [("limit_exceeded", 2)]
    await asyncio.sleep(20)
    umbel.core.message(1, "ask", id=3)
    await umbel.run()
    assert len(umbel.core.of_type("ai_response_start")) == 3


@virtual
async def test_a_run_that_has_ended_stays_readable_for_a_while_and_nothing_else_of_it_stays(app, bench):
    @app.stream("ask")
    async def answer(run, message):
        yield "x"

    umbel = bench()
    umbel.core.open()
    umbel.core.message(1, "ask")
    await umbel.run()
    run_id = end_id(umbel.core)
    assert umbel.core.named("finish") == [(f"run:{run_id}",)]
    await asyncio.sleep(RUN_KEPT - 1)
    assert umbel.runs.may_read(umbel.client(), run_id)
    await asyncio.sleep(2)
    assert not umbel.runs.may_read(umbel.client(), run_id)
    umbel.core.message(1, "ask")
    await umbel.run()
    assert umbel.core.named("forget") == [(f"run:{run_id}",)]


@virtual
async def test_only_so_many_ended_runs_are_readable_the_oldest_go_first(app, bench):
    @app.stream("ask")
    async def answer(run, message):
        yield "x"

    umbel = bench(max_runs=10_000)
    umbel.core.open()
    for _ in range(MOST_ENDED + 5):
        umbel.core.message(1, "ask")
    await umbel.run()
    ids = [data["runId"] for data in umbel.core.of_type("ai_response_end")]
    assert len(ids) == MOST_ENDED + 5
    assert umbel.core.named("forget") == [(f"run:{run_id}",) for run_id in ids[:5]]
    assert not umbel.runs.may_read(umbel.client(), ids[4])
    assert umbel.runs.may_read(umbel.client(), ids[5])


@virtual
async def test_long_runs_are_kept_up_to_a_number_of_bytes(app, bench):
    app.channel("run:{id}", open=True, history_bytes=16 << 20)

    @app.stream("ask")
    async def answer(run, message):
        yield "x" * (12 << 20)

    umbel = bench()
    umbel.core.open()
    for _ in range(7):
        umbel.core.message(1, "ask")
        await umbel.run()
        await settle(5000)
    assert len(umbel.core.of_type("ai_response_end")) == 7
    assert len(umbel.core.named("forget")) == 2, "five of them fit into 64 MiB"


@virtual
async def test_runs_are_counted_by_identity(app, bench):
    @app.authenticate
    def who(request):
        return request.query["who"]

    @app.stream("ask")
    async def answer(run, message):
        yield "x"
        await asyncio.sleep(10)

    umbel = bench(max_runs=2)
    for number, who_it_is in ((1, "ann"), (2, "ann"), (3, "bob")):
        umbel.core.open(number, query=f"who={who_it_is}")
    await umbel.run()
    for number in (1, 2, 1, 3):
        umbel.core.message(number, "ask")
    await umbel.run()
    [(number, refused)] = umbel.core.replies
    assert (number, refused["code"]) == (1, "limit_exceeded")
    assert "2 runs of this identity are unfinished" in refused["message"]
    await asyncio.sleep(20)
    umbel.core.message(1, "ask")
    await umbel.run()
    assert len(umbel.core.replies) == 1
    await umbel.dispatcher.shutdown(1.0)
    assert (umbel.runs._owners, umbel.runs._counts) == ({}, {})


@virtual
async def test_a_run_whose_starter_has_no_subscription_left_is_not_produced(app, bench):
    produced = []

    @app.stream("ask")
    async def answer(run, message):
        produced.append(run.id)
        yield "x"

    umbel = bench(max_runs=1)
    umbel.core.open()
    umbel.core.subscribes = False
    for _ in range(3):
        umbel.core.message(1, "ask", id=1)
        await umbel.run()
    assert (produced, umbel.core.published, umbel.replies) == ([], [], [])
    umbel.core.subscribes = True
    umbel.core.message(1, "ask")
    await umbel.run()
    assert len(produced) == 1, "those before are not counted"


@pytest.mark.parametrize(
    ("value", "is_good"),
    [
        ("x" * 128, True),
        ("ä" * 64, True),
        ("x" * 129, False),
        ("ä" * 65, False),
        (7, True),
        (None, True),
        (True, False),
        (1.5, False),
        (["a"], False),
        ({"a": "x" * 1000}, False),
    ],
)
@virtual
async def test_what_is_repeated_in_every_chunk_is_short(app, bench, value, is_good):
    @app.stream("ask")
    async def answer(run, message):
        yield "x"

    umbel = bench()
    umbel.core.open()
    umbel.core.message(1, "ask", id=1, data={"conversationId": value})
    await umbel.run()
    assert bool(umbel.core.of_type("ai_response_start")) == is_good
    assert [reply["code"] for reply in umbel.replies] == ([] if is_good else ["bad_message"])


@virtual
async def test_no_run_is_started_for_a_client_that_is_gone(app, bench):
    @app.stream("ask")
    async def answer(run, message):
        yield "x"

    umbel = bench()
    umbel.core.open()
    umbel.core.gone.add(1)
    umbel.core.message(1, "ask")
    await umbel.run()
    assert umbel.core.published == []


@virtual
async def test_the_run_may_be_cancelled_by_the_application(app, bench):
    runs = []

    @app.stream("ask")
    async def answer(run, message):
        runs.append(run)
        yield "x"
        await asyncio.sleep(1000)

    umbel = bench()
    umbel.core.open()
    umbel.core.message(1, "ask")
    await umbel.run()
    assert runs[0].status == "running"
    assert runs[0].cancel() is True
    assert runs[0].cancel() is False
    await settle()
    assert repr(runs[0]) == f"<Run {runs[0].id} cancelled>"


def end_id(core):
    return core.of_type("ai_response_start")[0]["runId"]

"""From events to functions: order, limits, time-outs, failures."""

import asyncio
import gc
import logging
from contextvars import ContextVar

import pytest
from looping import settle, virtual
from umbel import ConnectionClosed, Identity, Refused, _core


@virtual
async def test_a_message_reaches_its_handler_and_the_result_goes_back_with_the_id(app, bench):
    @app.on("add")
    async def add(client, message):
        return sum(message.data)

    umbel = bench()
    umbel.core.open()
    umbel.core.message(1, "add", id="x", data=[1, 2])
    await umbel.run()
    assert umbel.replies == [{"type": "add_result", "id": "x", "data": 3}]


@pytest.mark.parametrize("is_async", [True, False])
def test_context_variables_are_seen_from_authenticate_to_the_handlers_of_the_same_client_only(
    app, bench, is_async
):
    user, room, step = (ContextVar(name, default=None) for name in ("user", "room", "step"))
    seen = []

    def declared(function):
        async def later(*arguments):
            await asyncio.sleep(0)
            return function(*arguments)

        return later if is_async else function

    def who(request):
        seen.append(user.get())
        user.set(request.query["user"])
        return request.query["user"]

    def connected(client):
        room.set(f"room of {user.get()}")

    def handle(client, message):
        before, name = step.get(), message.data
        step.set(name)
        seen.append((user.get(), room.get(), before))

    async def socket(websocket):
        seen.append(user.get())

    app.authenticate(declared(who))
    app.on_connect(declared(connected))
    app.on("x")(declared(handle))
    app.on_disconnect(declared(lambda client, code, reason: seen.append((user.get(), room.get()))))
    app.websocket("/raw")(socket)

    @app.stream("ask")
    async def answer(run, message):
        seen.append((user.get(), room.get()))
        yield "x"

    @virtual
    async def scenario():
        umbel = bench(max_running=1)
        for key, name in ((1, "ann"), (2, "bob")):
            umbel.core.open(key, query=f"user={name}")
        await umbel.run()
        assert seen == [None, None]
        seen.clear()
        for key in (1, 2, 1):
            umbel.core.message(key, "x", data=key)
            await umbel.run()
        umbel.core.message(1, "ask")
        await umbel.run()
        umbel.core.closed(2)
        umbel.core.open(3, query="user=cid", route=0)
        await umbel.run()
        ann, bob = ("ann", "room of ann"), ("bob", "room of bob")
        handled = [(*ann, None), (*bob, None), (*ann, None)]
        assert seen[:4] == [*handled, ann]
        assert sorted(map(str, seen[4:])) == sorted(map(str, [None, bob, "cid"]))
        assert [variable.get() for variable in (user, room, step)] == [None] * 3

    scenario()


@virtual
async def test_a_result_of_none_is_answered_only_when_the_message_has_an_id(app, bench):
    app.on("note")(lambda client, message: None)
    umbel = bench()
    umbel.core.open()
    umbel.core.message(1, "note")
    umbel.core.message(1, "note", id=7)
    await umbel.run()
    assert umbel.replies == [{"type": "note_result", "id": 7, "data": None}]


@virtual
async def test_an_unknown_type_is_an_error_with_the_same_id(app, bench):
    umbel = bench()
    umbel.core.open()
    umbel.core.message(1, "what", id=[1])
    await umbel.run()
    assert umbel.replies[0]["code"] == "unknown_type"
    assert umbel.replies[0]["id"] == [1]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret"),
        SystemExit(3),
        KeyboardInterrupt(),
        RecursionError("secret"),
        BaseException("secret"),
    ],
)
@pytest.mark.parametrize("is_async", [True, False])
def test_a_failing_handler_tells_the_client_nothing_internal_and_the_log_everything(
    app, bench, caplog, error, is_async
):
    async def fail_later(client, message):
        raise error

    def fail_now(client, message):
        raise error

    app.on("fail")(fail_later if is_async else fail_now)

    @virtual
    async def scenario():
        umbel = bench()
        umbel.core.open()
        umbel.core.message(1, "fail", id="a")
        umbel.core.message(1, "fail", id="b")
        await umbel.run()
        first, second = umbel.replies
        assert first["code"] == "internal"
        assert (first["id"], second["id"]) == ("a", "b")
        assert "secret" not in str(first)
        assert first["details"]["incident"] in caplog.text
        assert "Traceback" in caplog.text
        assert "fail_later" in caplog.text or "fail_now" in caplog.text
        assert umbel.core.named("close") == []
        assert umbel.interrupts == (2 if isinstance(error, KeyboardInterrupt) else 0)

    scenario()


@virtual
async def test_a_handler_that_recurses_without_end_is_an_internal_error(app, bench, caplog):
    def recurse(client, message):
        return recurse(client, message)

    app.on("deep")(recurse)
    umbel = bench()
    umbel.core.open()
    umbel.core.message(1, "deep", id=1)
    await umbel.run()
    assert umbel.replies[0]["code"] == "internal"


@virtual
async def test_a_result_that_is_not_json_is_an_internal_error(app, bench, caplog):
    app.on("bad")(lambda client, message: object())
    umbel = bench()
    umbel.core.open()
    umbel.core.message(1, "bad", id=1)
    await umbel.run()
    assert umbel.replies[0]["code"] == "internal"


@virtual
async def test_a_handler_may_refuse(app, bench, caplog):
    @app.on("delete")
    async def delete(client, message):
        raise Refused(4500, "only the owner may")

    umbel = bench()
    umbel.core.open()
    umbel.core.message(1, "delete", id=1)
    await umbel.run()
    assert umbel.replies == [
        {"type": "error", "code": "not_allowed", "message": "only the owner may", "id": 1}
    ]
    assert caplog.text == ""
    assert umbel.core.named("close") == []


@virtual
async def test_text_that_orjson_refuses_is_a_bad_message(app, bench):
    app.on("x")(lambda client, message: 1)
    umbel = bench()
    umbel.core.open()
    text = b'{"type":"x","data":' + b"[" * 5000 + b"]" * 5000 + b"}"
    umbel.core.put(_core.MESSAGE, 1, None, "x", b"1", text)
    await umbel.run()
    assert umbel.replies[0]["code"] == "bad_message"


@virtual
async def test_a_handler_that_takes_too_long_is_cancelled_and_the_client_told(app, bench, caplog):
    cancelled = []

    @app.on("slow")
    async def slow(client, message):
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(asyncio.get_running_loop().time())
            raise

    umbel = bench(handler_timeout=2.0)
    umbel.core.open()
    umbel.core.message(1, "slow", id=1)
    await umbel.run()
    assert umbel.replies == []
    await asyncio.sleep(2.1)
    assert [answer["code"] for answer in umbel.replies] == ["timeout"]
    assert cancelled == [2.0]
    assert "its time was over" in caplog.text
    assert umbel.slot().running == 0


@virtual
async def test_a_handler_that_ignores_its_cancellation_keeps_its_slot_and_is_answered_once(app, bench):
    @app.on("stubborn")
    async def stubborn(client, message):
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            await asyncio.sleep(10)
        return "late"

    umbel = bench(handler_timeout=1.0)
    umbel.core.open()
    umbel.core.message(1, "stubborn", id=1)
    await umbel.run()
    await asyncio.sleep(2)
    assert umbel.slot().running == 1
    await asyncio.sleep(20)
    assert umbel.slot().running == 0
    assert [answer["type"] for answer in umbel.replies] == ["error"]


@virtual
async def test_without_a_timeout_a_handler_may_take_all_day(app, bench):
    @app.on("slow")
    async def slow(client, message):
        await asyncio.sleep(86_400)
        return "done"

    umbel = bench(handler_timeout=None)
    umbel.core.open()
    umbel.core.message(1, "slow")
    await umbel.run()
    await asyncio.sleep(86_401)
    assert umbel.replies[0]["data"] == "done"


@virtual
async def test_above_max_running_messages_start_in_order(app, bench):
    started = []
    release = asyncio.Event()

    @app.on("work")
    async def work(client, message):
        started.append(message.data)
        await release.wait()

    umbel = bench(max_running=2)
    umbel.core.open()
    for number in range(6):
        umbel.core.message(1, "work", data=number)
    await umbel.run()
    assert started == [0, 1]
    release.set()
    await settle()
    assert started == [0, 1, 2, 3, 4, 5]


@virtual
async def test_slow_handlers_of_one_client_do_not_delay_another(app, bench):
    started = []

    @app.on("work")
    async def work(client, message):
        started.append((client.id, message.data))
        await asyncio.sleep(10)

    umbel = bench(max_running=1)
    umbel.core.open(1)
    umbel.core.open(2)
    for number in range(100):
        umbel.core.message(1, "work", data=number)
    umbel.core.message(2, "work", data="mine")
    await umbel.run()
    assert started == [("c1", 0), ("c2", "mine")]


@virtual
async def test_a_synchronous_handler_waits_for_its_turn_too(app, bench):
    order = []

    @app.on("slow")
    async def slow(client, message):
        await asyncio.sleep(1)
        order.append("slow")

    app.on("fast")(lambda client, message: order.append("fast"))
    umbel = bench(max_running=1)
    umbel.core.open()
    umbel.core.message(1, "slow")
    umbel.core.message(1, "fast")
    await umbel.run()
    await asyncio.sleep(2)
    assert order == ["slow", "fast"]


@virtual
async def test_messages_sent_before_a_client_left_are_handled_before_on_disconnect(app, bench):
    started = []
    app.on_disconnect(lambda client, code, reason: started.append(code))

    @app.on("work")
    async def work(client, message):
        started.append(message.data)
        await asyncio.sleep(1)

    umbel = bench(max_running=1)
    umbel.core.open()
    umbel.core.message(1, "work", data=0)
    umbel.core.message(1, "work", data=1)
    umbel.core.message(1, "work", data=2)
    umbel.core.closed(1)
    await umbel.run()
    assert started == [0]
    await asyncio.sleep(5)
    assert started == [0, 1, 2, 1001]
    assert umbel.dispatcher._slots.by_number == {}
    assert umbel.dispatcher._caller._last == {}
    assert umbel.waiting() == 0
    assert umbel.core.named("begin_reading") == []


@virtual
async def test_messages_that_wait_for_on_connect_are_handled_although_the_client_has_left(app, bench):
    order = []

    @app.on_connect
    async def connect(client):
        await asyncio.sleep(1)

    app.on("work")(lambda client, message: order.append(message.data))
    app.on_disconnect(lambda client, code, reason: order.append(code))
    umbel = bench()
    umbel.core.open()
    umbel.core.message(1, "work", data=1)
    umbel.core.message(1, "work", data=2)
    umbel.core.closed(1)
    await umbel.run()
    await asyncio.sleep(2)
    assert order == [1, 2, 1001]


@pytest.mark.parametrize("is_async", [True, False])
def test_when_the_application_closes_a_client_its_waiting_messages_are_dropped(app, bench, is_async):
    handled = []
    app.on_disconnect(lambda client, code, reason: handled.append(code))
    app.on("work")(lambda client, message: handled.append(message.data))

    def kick(client, message):
        client.close(4500, "banned")

    async def kick_later(client, message):
        await asyncio.sleep(1)
        client.close(4500, "banned")

    app.on("evil")(kick_later if is_async else kick)

    @virtual
    async def scenario():
        umbel = bench(max_running=1)
        umbel.core.open()
        umbel.core.message(1, "evil")
        for number in range(30):
            umbel.core.message(1, "work", data=number)
        await umbel.run()
        await asyncio.sleep(2)
        umbel.core.message(1, "work", data="late")
        umbel.core.closed(1, 4500)
        await umbel.run()
        assert handled == [4500]
        assert umbel.waiting() == 0

    scenario()


@virtual
async def test_shutdown_works_on_what_waits_and_says_how_much_is_left(app, bench, caplog):
    ended = []

    @app.on("work")
    async def work(client, message):
        await asyncio.sleep(1)
        ended.append(message.data)

    @app.on_disconnect
    async def disconnect(client, code, reason):
        await asyncio.sleep(0.5)
        ended.append(code)

    umbel = bench(max_running=2)
    umbel.core.open()
    for number in range(9):
        umbel.core.message(1, "work", data=number)
    umbel.core.closed(1, 1012)
    await umbel.run()
    await umbel.dispatcher.shutdown(2.5)
    assert ended == [0, 1, 2, 3, 1012]
    # A task of an earlier test may be destroyed now, which asyncio logs.
    assert [record for record in caplog.record_tuples if record[0] == "umbel"] == [
        (
            "umbel",
            logging.WARNING,
            "the time to stop was over; functions cancelled: 2, messages not handled: 3",
        )
    ]
    assert umbel.tasks() == 0


@virtual
async def test_the_function_of_a_channel_decides_by_name(app, bench):
    @app.channel("doc:{owner}:{name}")
    async def doc(client, name, owner):
        return (owner, name) == ("ann", "plan")

    umbel = bench()
    umbel.core.open()
    yes = umbel.core.ask_subscribe(1, 0, "doc:ann:plan", "ann", "plan")
    no = umbel.core.ask_subscribe(1, 0, "doc:bob:plan", "bob", "plan")
    await umbel.run()
    assert umbel.core.named("decide") == [
        (1, yes, True, "", ""),
        (1, no, False, "not_allowed", "you may not subscribe to doc:bob:plan"),
    ]


@virtual
async def test_a_failing_function_of_a_channel_refuses_and_logs(app, bench, caplog):
    @app.channel("a:{x}")
    def guard(client, x):
        raise LookupError("secret")

    umbel = bench()
    umbel.core.open()
    umbel.core.ask_subscribe(1, 0, "a:1", "1")
    await umbel.run()
    ((_, _, allowed, code, message),) = umbel.core.named("decide")
    assert (allowed, code) == (False, "internal")
    assert "secret" not in message
    assert "LookupError: secret" in caplog.text
    assert "incident" in message


async def denied(*arguments):
    return False


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (lambda: denied(), "the coroutine denied; await it first"),
        (lambda: (yield), "generator"),
        (lambda: "no", "str"),
        (lambda: 1, "int"),
        (lambda: None, "None"),
    ],
)
@pytest.mark.parametrize("question", ["subscribe", "publish"])
def test_a_function_that_decides_must_return_true_to_let_a_client_in(
    app, bench, caplog, value, said, question
):
    async def decide(client, x, data=None):
        return value()

    app.channel("a:{x}", publish=decide)(decide)

    @virtual
    async def scenario():
        umbel = bench()
        umbel.core.open()
        if question == "subscribe":
            umbel.core.ask_subscribe(1, 0, "a:1", "1")
        else:
            umbel.core.ask_publish(1, 0, "a:1", "1")
        await umbel.run()
        ((_, _, allowed, code, _),) = umbel.core.named("decide")
        assert (allowed, code) == (False, "internal")
        answers = {
            "subscribe": "True or False",
            "publish": "True, False, or a dict or list to publish instead",
        }
        must = f"function of channel 'a:{{x}}' must return {answers[question]}"
        assert f"{must}; it returned {said}" in caplog.text
        gc.collect()  # a coroutine that was never awaited would warn now

    scenario()


@virtual
async def test_a_function_of_a_channel_may_refuse_with_a_reason(app, bench):
    @app.channel("a:{x}")
    async def guard(client, x):
        raise Refused(4500, "not yours")

    umbel = bench()
    umbel.core.open()
    umbel.core.ask_subscribe(1, 0, "a:1", "1")
    await umbel.run()
    assert umbel.core.named("decide") == [(1, 1, False, "not_allowed", "not yours")]


@virtual
async def test_the_publish_function_sees_the_data(app, bench):
    app.channel("a:{x}", open=True, publish=lambda client, x, data: data["to"] == x)
    umbel = bench()
    umbel.core.open()
    umbel.core.ask_publish(1, 0, "a:1", "1", data={"to": "1"})
    umbel.core.ask_publish(1, 0, "a:1", "1", data={"to": "2"})
    await umbel.run()
    assert umbel.core.named("decide") == [
        (1, 1, True, "", ""),
        (1, 2, False, "not_allowed", "you may not publish to a:1"),
    ]


@virtual
async def test_authentication_gives_the_identity_before_anything_else(app, bench):
    order = []

    @app.authenticate
    async def who(request):
        await asyncio.sleep(1)
        order.append(request.token)
        return {"sub": "ann", "role": "admin"}

    @app.on_connect
    async def connect(client):
        await asyncio.sleep(1)
        order.append(client.identity.subject)

    @app.on("x")
    async def handle(client, message):
        order.append(client.identity.claims["role"])

    umbel = bench()
    umbel.core.open(headers=[("authorization", "Bearer abc")])
    await umbel.run()
    assert umbel.core.named("admit") == []
    umbel.core.message(1, "x")
    await umbel.run()
    await asyncio.sleep(3)
    assert umbel.core.named("admit") == [(1, "ann")]
    assert order == ["abc", "ann", "admin"]


@pytest.mark.parametrize(
    ("answer", "close", "reason"),
    [
        (None, 4401, "authentication required"),
        (Refused(), 4401, "authentication required"),
        (Refused(4500, "locked"), 4500, "locked"),
    ],
)
def test_a_client_that_is_not_authenticated_is_closed_with_the_reason(app, bench, answer, close, reason):
    @app.authenticate
    async def who(request):
        if isinstance(answer, Exception):
            raise answer
        return answer

    @virtual
    async def scenario():
        umbel = bench()
        umbel.core.open()
        await umbel.run()
        assert umbel.core.named("close") == [(1, close, reason)]
        assert umbel.replies == []  # the core says it
        assert umbel.core.named("admit") == []

    scenario()


@pytest.mark.parametrize("answer", [42, {"name": "no subject"}, "", Identity("")])
def test_an_identity_without_a_subject_lets_nobody_in(app, bench, caplog, answer):
    app.authenticate(lambda request: answer)

    @virtual
    async def scenario():
        umbel = bench()
        umbel.core.open()
        await umbel.run()
        ((_, code, reason),) = umbel.core.named("close")
        assert code == 1011
        assert "incident" in reason
        assert umbel.core.named("admit") == []

    scenario()


@pytest.mark.parametrize("route", [None, 0])
def test_a_failing_authentication_is_logged_with_the_request(app, bench, caplog, route):
    @app.authenticate
    def who(request):
        raise LookupError("no database")

    @app.websocket("/raw")
    async def raw(websocket):
        pass

    @virtual
    async def scenario():
        umbel = bench()
        umbel.core.open(path="/there", peer="1.2.3.4:5", route=route)
        await umbel.run()
        assert "authenticate failed for <Request /there from 1.2.3.4:5>" in caplog.text

    scenario()


@virtual
async def test_an_authentication_that_hangs_ends_with_the_handshake_timeout(app, bench, caplog):
    @app.authenticate
    async def who(request):
        await asyncio.sleep(1000)

    umbel = bench(handshake_timeout=3.0)
    umbel.core.open()
    await umbel.run()
    await asyncio.sleep(3.1)
    assert umbel.core.named("close") == [(1, 1013, "this took longer than the server allows")]


@virtual
async def test_a_client_that_left_during_authentication_is_not_connected(app, bench):
    connected = []

    @app.authenticate
    async def who(request):
        await asyncio.sleep(1)
        return "ann"

    app.on_connect(connected.append)
    app.on_disconnect(lambda client, code, reason: connected.append(code))
    umbel = bench()
    umbel.core.open()
    umbel.core.closed(1)
    await umbel.run()
    await asyncio.sleep(2)
    assert connected == []


@virtual
async def test_disconnect_follows_connect_even_when_the_client_leaves_meanwhile(app, bench):
    order = []

    @app.on_connect
    async def connect(client):
        await asyncio.sleep(1)
        order.append("connected")

    @app.on_disconnect
    async def disconnect(client, code, reason):
        order.append((code, reason))

    umbel = bench()
    umbel.core.open()
    umbel.core.closed(1, 1001, "bye")
    await umbel.run()
    assert order == []
    await asyncio.sleep(2)
    assert order == ["connected", (1001, "bye")]


@virtual
async def test_a_client_that_on_connect_refused_is_closed_and_not_disconnected(app, bench):
    order = []

    @app.on_connect
    def connect(client):
        raise Refused(4500, "full")

    app.on_disconnect(lambda *arguments: order.append(arguments))
    umbel = bench()
    umbel.core.open()
    umbel.core.message(1, "x")
    await umbel.run()
    umbel.core.closed(1, 4500)
    await umbel.run()
    assert umbel.core.named("close") == [(1, 4500, "full")]
    assert order == []


@virtual
async def test_a_failing_on_disconnect_is_logged(app, bench, caplog):
    @app.on_disconnect
    async def disconnect(client, code, reason):
        raise OSError("database gone")

    umbel = bench()
    umbel.core.open()
    umbel.core.closed(1)
    await umbel.run()
    assert "database gone" in caplog.text
    assert umbel.core.replies == []


@virtual
async def test_one_broken_event_does_not_stop_the_others(app, bench, caplog):
    app.on("x")(lambda client, message: 1)
    umbel = bench()
    umbel.core.put(999, 1, "s3cret\r\n" * 100)
    umbel.core.open()
    umbel.core.message(1, "x")
    await umbel.run()
    assert umbel.replies[0]["data"] == 1
    assert "was not handled" in caplog.text
    assert "s3cret" not in caplog.text


@virtual
async def test_lines_of_the_core_reach_the_log(app, bench, caplog):
    umbel = bench()
    umbel.core.put(_core.LOG, logging.WARNING, "no descriptors left: 100%", None)
    await umbel.run()
    assert caplog.record_tuples == [("umbel", logging.WARNING, "no descriptors left: 100%")]


@virtual
async def test_events_of_unknown_clients_are_harmless(app, bench):
    app.on("x")(lambda client, message: 1)
    app.channel("a")(lambda client: True)
    umbel = bench()
    umbel.core.message(9, "x")
    umbel.core.ask_subscribe(9, 0, "a")
    umbel.core.ask_publish(9, 0, "a")
    umbel.core.put(_core.TEXT, 9, None, "x")
    umbel.core.put(_core.WRITABLE, 9)
    umbel.core.closed(9)
    await umbel.run()
    assert umbel.core.calls == []


@virtual
async def test_a_websocket_path_gets_its_parameters_and_closes_when_its_function_ends(app, bench):
    seen = []

    @app.websocket("/files/{name:path}")
    async def files(websocket, name):
        seen.append(name)
        async for message in websocket:
            await websocket.send(message)
            if message == "last":
                return

    umbel = bench()
    umbel.core.open(5, route=0, params=("a/b",), path="/files/a/b")
    umbel.core.put(_core.TEXT, 5, None, "hello")
    umbel.core.put(_core.BINARY, 5, None, b"\0\1")
    umbel.core.put(_core.TEXT, 5, None, "last")
    await umbel.run()
    assert seen == ["a/b"]
    assert umbel.core.named("send_text") == [(5, "hello"), (5, "last")]
    assert umbel.core.named("send_binary") == [(5, b"\0\1")]
    assert umbel.core.named("close") == [(5, 1000, "")]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("secret"), 1011),
        (Refused(4500, "no"), 4500),
        (ExceptionGroup("", [Refused(4500, "no")]), 4500),
        (ConnectionClosed(1001), 1011),  # of another connection: this one is open
        (SystemExit(1), 1011),
    ],
)
def test_a_websocket_function_that_raises_closes_with_a_code_that_says_so(app, bench, caplog, error, code):
    @app.websocket("/x")
    async def fail(websocket):
        raise error

    @virtual
    async def scenario():
        umbel = bench()
        umbel.core.open(5, route=0)
        await umbel.run()
        ((_, closed_with, reason),) = umbel.core.named("close")
        assert closed_with == code
        assert "secret" not in reason
        assert ("Traceback" in caplog.text) == (code == 1011)
        assert ("websocket '/x' failed for <WebSocket" in caplog.text) == (code == 1011)

    scenario()


@virtual
async def test_websocket_paths_are_authenticated_too(app, bench):
    seen = []

    @app.authenticate
    async def who(request):
        return request.query.get("user")

    @app.websocket("/x")
    async def handle(websocket):
        seen.append(websocket.identity.subject)

    umbel = bench()
    umbel.core.open(5, route=0, query="user=ann")
    umbel.core.open(6, route=0)
    await umbel.run()
    assert seen == ["ann"]
    assert umbel.core.named("admit") == [(5, "ann")]
    assert umbel.core.named("close") == [(6, 4401, "authentication required"), (5, 1000, "")]


@virtual
async def test_shutdown_lets_functions_end_then_cancels_them(app, bench):
    ended = []

    @app.on("work")
    async def work(client, message):
        try:
            await asyncio.sleep(message.data)
            ended.append(message.data)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    umbel = bench()
    umbel.core.open()
    umbel.core.message(1, "work", data=1)
    umbel.core.message(1, "work", data=1000)
    await umbel.run()
    await umbel.dispatcher.shutdown(5.0)
    assert ended == [1, "cancelled"]
    assert asyncio.get_running_loop().time() < 7
    assert umbel.tasks() == 0


@virtual
async def test_shutdown_can_be_hastened_while_it_waits(app, bench, caplog):
    app.on("work")(lambda client, message: asyncio.sleep(1000))
    umbel = bench(handler_timeout=None)
    umbel.dispatcher.hasten(0.0)  # nothing waits yet
    umbel.core.open()
    for _ in range(3):
        umbel.core.message(1, "work")
    await umbel.run()
    loop = asyncio.get_running_loop()
    loop.call_later(1.0, umbel.dispatcher.hasten, 0.5)
    await umbel.dispatcher.shutdown(100.0)
    assert loop.time() < 2
    assert caplog.text.count("\n") == 1
    assert "functions cancelled: 3, messages not handled: 0" in caplog.text


@virtual
async def test_shutdown_goes_on_without_a_function_that_never_ends(app, bench, caplog):
    release = asyncio.Event()

    @app.on("hang")
    async def hang(client, message):
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    umbel = bench(handler_timeout=None)
    umbel.core.open()
    umbel.core.message(1, "hang")
    await umbel.run()
    await umbel.dispatcher.shutdown(1.0)
    assert "left behind" in caplog.text
    release.set()
    await settle()


@virtual
async def test_background_tasks_run_beside_and_are_cancelled_at_the_end(app, bench, caplog):
    ticks = []

    @app.background
    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(1)

    @app.background
    async def broken():
        raise ValueError("no source")

    umbel = bench()
    umbel.dispatcher.start_backgrounds()
    await asyncio.sleep(2.5)
    await umbel.dispatcher.shutdown(100.0)
    assert len(ticks) == 3
    assert asyncio.get_running_loop().time() < 5
    assert "no source" in caplog.text

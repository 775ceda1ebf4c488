"""The websocket object: receiving, sending, back-pressure both ways."""

import asyncio
import weakref

import pytest
from fake_core import FakeCore, FakeHandshake
from looping import settle, virtual
from umbel import ConnectionClosed, Refused, WebSocket
from umbel._clients.websocket import HIGH_WATER, outcome
from umbel._dispatching.slots import Slots


def websocket():
    core = FakeCore()
    return WebSocket(Slots(core), asyncio.get_running_loop(), 1, FakeHandshake(path="/x")), core


@virtual
async def test_messages_are_received_in_order_and_iteration_ends_with_the_connection():
    socket, _ = websocket()
    socket._received("a", None)
    socket._received(b"b", None)
    socket._closed(1001, "bye")
    assert [message async for message in socket] == ["a", b"b"]
    assert (socket.closed, socket.close_code, socket.close_reason) == (True, 1001, "bye")
    with pytest.raises(ConnectionClosed, match="1001: bye") as caught:
        await socket.receive()
    assert (caught.value.code, caught.value.reason) == (1001, "bye")


@virtual
async def test_a_waiting_receiver_wakes_for_a_message_and_for_the_end():
    socket, _ = websocket()
    waiting = asyncio.ensure_future(socket.receive())
    await settle()
    socket._received("a", None)
    assert await waiting == "a"
    waiting = asyncio.ensure_future(socket.receive())
    await settle()
    socket._closed(1006, "")
    with pytest.raises(ConnectionClosed):
        await waiting


@virtual
async def test_two_receivers_at_a_time_are_an_error():
    socket, _ = websocket()
    first = asyncio.ensure_future(socket.receive())
    await settle()
    with pytest.raises(RuntimeError, match="another task"):
        await socket.receive()
    first.cancel()
    await settle()
    socket._received("a", None)
    assert await socket.receive() == "a"


@virtual
async def test_a_message_counts_until_it_is_received():
    class Credit: ...

    socket, _ = websocket()
    held = [Credit() for _ in range(2)]
    counted = [weakref.ref(credit) for credit in held]
    while held:
        socket._received("x", held.pop(0))
    await socket.receive()
    assert [credit() is not None for credit in counted] == [False, True]
    await socket.receive()
    assert counted[1]() is None


@virtual
async def test_sending_returns_at_once_while_the_socket_keeps_up_and_waits_when_not():
    socket, core = websocket()
    await socket.send("a")
    core.waiting = HIGH_WATER
    senders = [asyncio.ensure_future(socket.send(part)) for part in (b"b", bytearray(b"c"), memoryview(b"d"))]
    await settle()
    assert not any(sender.done() for sender in senders)
    assert core.named("send_binary") == [(1, b"b"), (1, b"c"), (1, b"d")]
    socket._drained()
    await settle()
    assert all(sender.done() for sender in senders)


@virtual
async def test_a_cancelled_sender_does_not_take_the_others_with_it():
    socket, core = websocket()
    core.waiting = HIGH_WATER
    first, second = asyncio.ensure_future(socket.send("a")), asyncio.ensure_future(socket.send("b"))
    await settle()
    first.cancel()
    await settle()
    assert not second.done()
    socket._drained()
    await second


@virtual
async def test_a_sender_that_waits_is_released_by_the_end_and_later_ones_are_told():
    socket, core = websocket()
    core.waiting = HIGH_WATER
    sender = asyncio.ensure_future(socket.send("a"))
    await settle()
    socket._closed(1006, "")
    await sender
    with pytest.raises(ConnectionClosed):
        await socket.send("b")


@virtual
async def test_sending_to_a_connection_that_the_core_knows_to_be_gone():
    socket, core = websocket()
    core.gone.add(1)
    with pytest.raises(ConnectionClosed):
        await socket.send("a")
    assert socket.close() is False


@pytest.mark.parametrize("message", [None, 1, ["x"]])
def test_only_text_and_bytes_are_messages(message):
    @virtual
    async def scenario():
        socket, _ = websocket()
        with pytest.raises(TypeError, match="str or bytes"):
            await socket.send(message)

    scenario()


@virtual
async def test_waiting_for_the_end():
    socket, core = websocket()
    waiting = [asyncio.ensure_future(socket.wait_closed()) for _ in range(2)]
    assert socket.close(4500, "enough") is True
    assert core.named("close") == [(1, 4500, "enough")]
    await settle()
    assert not waiting[0].done()
    assert (socket.close_code, socket.close_reason) == (None, None)
    socket._closed(4500, "enough")
    await asyncio.gather(*waiting)
    await socket.wait_closed()
    assert repr(socket) == "<WebSocket /x from 127.0.0.1:5000>"


@virtual
async def test_close_codes_of_later_versions_are_reserved():
    socket, core = websocket()
    for code in (4501, 4502, 4503):
        with pytest.raises(ValueError, match="reserved for Umbel"):
            socket.close(code)
    assert core.named("close") == []


@virtual
async def test_after_close_nothing_is_sent_and_the_sender_is_told():
    socket, core = websocket()
    socket.close(4001, "bye")
    socket.close(4002)
    with pytest.raises(ConnectionClosed, match="4001: bye"):
        await socket.send("lost")
    assert core.named("send_text") == []
    socket._received("late", None)
    assert await socket.receive() == "late"


def test_outcome_reads_the_end_of_a_connection_from_the_errors_of_its_function():
    closed, refused, failed = ConnectionClosed(1001), Refused(4500), RuntimeError()
    group = BaseExceptionGroup
    assert outcome(closed) is closed
    assert outcome(failed) is None
    assert outcome(group("", [closed, ConnectionClosed()])) is closed
    assert outcome(group("", [closed, group("", [refused])])) is refused
    assert outcome(group("", [closed, group("", [refused, failed])])) is None


@virtual
async def test_after_the_end_of_the_input_the_function_may_still_answer():
    socket, core = websocket()
    socket._received("last", None)
    socket._input_ended(1001, "leaving")
    assert [message async for message in socket] == ["last"]
    assert not socket.closed
    await socket.send("answer")
    assert core.named("send_text") == [(1, "answer")]
    with pytest.raises(ConnectionClosed, match="1001: leaving"):
        await socket.receive()

"""Pending receipts in Python, run by a Rust test in `src/bindings/receipt.rs`.

`pending()` comes from there: a receipt, and the broker's end of it, which answers on a thread of the broker.
"""

import asyncio
import os
import sys
import time
import types
from pathlib import Path

from late_broker import pending

umbel = types.ModuleType("umbel")
umbel.NotPublished = type("NotPublished", (Exception,), {})
umbel.MaybePublished = type("MaybePublished", (Exception,), {})
sys.modules["umbel"] = umbel


def raised(kind, call, *arguments, **options):
    """The error of this kind that a call raises."""
    try:
        call(*arguments, **options)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


async def awaited(receipt):
    return await receipt


async def every_task_that_awaits_a_receipt_gets_the_position():
    receipt, broker = pending()
    assert receipt.position is None and repr(receipt) == "Receipt(pending)"
    tasks = [asyncio.create_task(awaited(receipt)) for _ in range(3)]
    await asyncio.sleep(0)
    broker.confirm(7)
    positions = await asyncio.gather(*tasks, receipt)
    assert [position.offset for position in positions] == [7] * 4
    assert (await receipt) == receipt.position == positions[0]
    assert repr(receipt) == f"Receipt({receipt.position!r})"


async def an_awaiter_that_is_cancelled_cancels_no_other():
    receipt, broker = pending()
    first, second = (asyncio.create_task(awaited(receipt)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    try:
        await asyncio.wait_for(receipt, 0.001)
        raise AssertionError("it is pending")
    except TimeoutError:
        pass
    assert first.cancelled() and not second.done()
    broker.confirm(1)
    assert (await second).offset == 1


async def a_failure_says_whether_it_is_certain():
    for answer, kind in (("refuse", umbel.NotPublished), ("forget", umbel.MaybePublished)):
        receipt, broker = pending()
        task = asyncio.create_task(awaited(receipt))
        await asyncio.sleep(0)
        getattr(broker, answer)()
        for waiting in (task, receipt):
            try:
                await waiting
                raise AssertionError("it failed")
            except kind as error:
                assert "broker" in str(error)
        assert receipt.position is None


async def waiting_on_a_loop_raises_whether_or_not_the_answer_is_known():
    receipt, broker = pending()
    raised(RuntimeError, receipt.wait)
    broker.confirm(1)
    await receipt
    assert "await" in str(raised(RuntimeError, receipt.wait, 1))


async def a_thread_may_wait_while_a_loop_awaits():
    receipt, broker = pending()
    waited = asyncio.get_running_loop().run_in_executor(None, receipt.wait)
    task = asyncio.create_task(awaited(receipt))
    await asyncio.sleep(0.01)
    broker.confirm(3)
    assert (await waited) == (await task)


def a_thread_waits_no_longer_than_it_says():
    receipt, broker = pending()
    began = time.monotonic()
    raised(TimeoutError, receipt.wait, 0.15)
    raised(TimeoutError, receipt.wait, timeout=0)
    assert 0.15 <= time.monotonic() - began < 5
    raised(ValueError, receipt.wait, -1)
    broker.refuse()
    raised(umbel.NotPublished, receipt.wait)


def what_is_known_needs_no_loop():
    receipt, broker = pending()
    broker.confirm(2)
    position = receipt.wait(5)
    assert raised(StopIteration, awaited(receipt).send, None).value == position
    other, _ = pending()
    raised(RuntimeError, awaited(other).send, None)


def an_answer_after_the_end_of_the_loop_harms_nobody():
    receipt, broker = pending()

    async def give_up():
        await asyncio.wait([asyncio.create_task(awaited(receipt))], timeout=0.001)

    asyncio.run(give_up())
    broker.confirm(1)
    assert receipt.wait(5).offset == 1


def loops():
    """asyncio's own loop, and uvloop's where it is installed beside the interpreter that cargo was given."""
    yield asyncio.new_event_loop
    place = Path(os.environ.get("PYO3_PYTHON", "")).parent.parent
    sys.path += map(str, place.glob(f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"))
    try:
        import uvloop
    except ImportError:
        print("uvloop is not installed: tested on asyncio's loop alone")
    else:
        yield uvloop.new_event_loop


for new_event_loop in loops():
    for test in (
        every_task_that_awaits_a_receipt_gets_the_position,
        an_awaiter_that_is_cancelled_cancels_no_other,
        a_failure_says_whether_it_is_certain,
        waiting_on_a_loop_raises_whether_or_not_the_answer_is_known,
        a_thread_may_wait_while_a_loop_awaits,
    ):
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(asyncio.wait_for(test(), 20))
a_thread_waits_no_longer_than_it_says()
what_is_known_needs_no_loop()
an_answer_after_the_end_of_the_loop_harms_nobody()

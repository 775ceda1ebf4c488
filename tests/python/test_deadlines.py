import asyncio

from looping import virtual
from umbel._dispatching.deadlines import Deadlines


class Job:
    def __init__(self):
        self.expired_at = None

    def expire(self):
        self.expired_at = asyncio.get_running_loop().time()


@virtual
async def test_each_job_expires_in_its_turn():
    deadlines = Deadlines(asyncio.get_running_loop(), 5.0)
    jobs = [Job() for _ in range(3)]
    for job in jobs:
        deadlines.add(job)
        await asyncio.sleep(1)
    await asyncio.sleep(100)
    assert [job.expired_at for job in jobs] == [5.0, 6.0, 7.0]


@virtual
async def test_a_job_that_has_ended_does_not_expire():
    deadlines = Deadlines(asyncio.get_running_loop(), 5.0)
    first, second = Job(), Job()
    deadlines.add(first)
    deadlines.discard(first)
    deadlines.discard(first)
    await asyncio.sleep(1)
    deadlines.add(second)
    await asyncio.sleep(100)
    assert (first.expired_at, second.expired_at) == (None, 6.0)


@virtual
async def test_without_seconds_nothing_expires():
    deadlines = Deadlines(asyncio.get_running_loop(), None)
    job = Job()
    deadlines.add(job)
    await asyncio.sleep(1e6)
    assert job.expired_at is None


@virtual
async def test_cleared_jobs_do_not_expire():
    deadlines = Deadlines(asyncio.get_running_loop(), 1.0)
    job = Job()
    deadlines.add(job)
    deadlines.clear()
    deadlines.clear()
    await asyncio.sleep(10)
    assert job.expired_at is None

"""The demo's task board: who may change what, and what becomes of changes at the same time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from umbel import Umbel, client, testing
from umbel.demo import board

TASK = {"title": "Water the ferns", "status": "doing", "by": "ann"}


@asynccontextmanager
async def boards() -> AsyncIterator[tuple[Any, Any]]:
    """The board as Ann and Ben have it, with the tasks of the beginning."""
    app = Umbel()
    board.add_board(app)
    async with (
        testing.connect(app, identity="ann") as ann,
        testing.connect(app, identity="ben") as ben,
        ann.shared_state(board.BOARD) as hers,
        ben.shared_state(board.BOARD) as his,
    ):
        await testing.until(lambda: len(hers) == len(his) == len(board.TASKS))
        yield hers, his


async def test_the_tasks_are_there_from_the_beginning() -> None:
    async with boards() as (hers, his):
        assert {key: task["title"] for key, task in hers.items()} == board.TASKS
        assert dict(hers) == dict(his)


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("1", {**TASK, "by": "ben"}),
        ("1", {**TASK, "title": ""}),
        ("1", {**TASK, "title": "x" * (board.LONGEST_TITLE + 1)}),
        ("1", {**TASK, "title": ["x"]}),
        ("1", {**TASK, "status": "never"}),
        ("1", {**TASK, "status": ["done"]}),
        ("1", {**TASK, "more": 1}),
        ("1", {"title": "x"}),
        ("1", [TASK]),
        ("1", None),
        ("99", TASK),
    ],
)
async def test_what_is_no_task_is_refused(key: str, data: object) -> None:
    async with boards() as (hers, _):
        before = dict(hers)
        with pytest.raises(client.RequestFailed, match="not_allowed"):
            await hers.set(key, data)
        assert dict(hers) == before


async def test_nobody_removes_a_task_or_a_part_of_it() -> None:
    async with boards() as (hers, _):
        with pytest.raises(client.RequestFailed, match="not_allowed"):
            await hers.delete("1")
        with pytest.raises(client.RequestFailed, match="not_allowed"):
            await hers.patch("1", {"title": None})


async def test_changes_at_the_same_time_are_merged() -> None:
    async with boards() as (hers, his):
        one, other = hers.set("1", TASK), his.set("1", {"title": "Rest", "status": "to do", "by": "ben"})
        answers = [await one, await other]
        assert [answer.resolved for answer in answers].count(True) == 1
        await testing.until(lambda: dict(hers) == dict(his))
        assert (hers["1"]["title"], hers["1"]["status"]) == ("Rest", "doing")

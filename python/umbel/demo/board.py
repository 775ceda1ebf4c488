"""The task board: tasks that several change at the same time, and who they are."""

from __future__ import annotations

from typing import Any, Final

from umbel import Client, Umbel, resolvers


def add_board(app: Umbel) -> None:
    """Declare the channel of the board, and put the tasks on it when the application is served."""
    app.channel(BOARD, open=True, mode="state", publish=may_change, presence=True)
    app.resolve(BOARD)(resolvers.merge)

    @app.background
    async def fill() -> None:
        state = app.state(BOARD)
        for key, title in TASKS.items():
            state.set(key, {"title": title, "status": STATUSES[0], "by": ""})


def may_change(client: Client, op: str, key: str, data: Any) -> bool:
    """Let everybody change the tasks that are there, as a whole and in their own name."""
    if op != "set" or key not in TASKS or not isinstance(data, dict) or set(data) != FIELDS:
        return False
    title = data["title"]
    is_title = isinstance(title, str) and 0 < len(title) <= LONGEST_TITLE
    return is_title and data["status"] in STATUSES and data["by"] == client.identity.subject


BOARD: Final = "demo:board"

FIELDS: Final = {"title", "status", "by"}

STATUSES: Final = ("to do", "doing", "done")

TASKS: Final = {"1": "Water the ferns", "2": "Sow the dill", "3": "Prune the lovage"}
"""The titles at first, by their keys. There are always these tasks, so that strangers fill no memory."""

LONGEST_TITLE: Final = 80
"""Characters."""

__all__ = ["BOARD", "add_board"]

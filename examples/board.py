"""A task board for several: ``python board.py``, then open http://127.0.0.1:8000/ in two windows."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from umbel import Client, Request, Umbel, resolvers

app = Umbel()
app.page("/", Path(__file__).with_suffix(".html"))


@app.authenticate
def who(request: Request) -> str | None:
    return request.token  # whatever the page says; a real application asks its sessions


def stamp(client: Client, id: str, op: str, key: str, data: Any) -> bool | dict[str, Any]:
    if op != "set":
        return op == "delete"
    return {"taskId": key, "update": data["update"], "timestamp": datetime.now(UTC).isoformat()}


app.channel("board:{id}", open=True, mode="state", publish=stamp, presence=True)
app.resolve("board:{id}")(resolvers.merge)

if __name__ == "__main__":
    app.run(port=8000)

"""A chat with a page: ``python chatroom.py``, then open http://127.0.0.1:8000/ in two tabs."""

from datetime import UTC, datetime
from pathlib import Path

from umbel import Client, Message, Request, Umbel

app = Umbel()
app.channel("chat", open=True, history=100, replay="start")
app.page("/", Path(__file__).with_suffix(".html"))


@app.authenticate
def who(request: Request) -> str | None:
    return request.token  # whatever the page says; a real application asks its sessions


@app.on("say")
async def say(client: Client, message: Message) -> None:
    line = {"name": client.identity.subject, "text": str(message.data)[:500]}
    await app.publish("chat", line | {"at": datetime.now(UTC).isoformat()})


if __name__ == "__main__":
    app.run(port=8000)

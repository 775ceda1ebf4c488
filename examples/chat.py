"""A chat in ten lines: ``umbel run chat:app``, then subscribe to ``room:lobby`` and publish to it."""

from umbel import Client, Umbel

app = Umbel()


@app.channel("room:{room}", history=100, publish=True)
async def join(client: Client, room: str) -> bool:
    return room in ("lobby", "kitchen")


if __name__ == "__main__":
    app.run(port=8000)

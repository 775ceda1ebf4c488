"""A chat in ten lines: ``umbel run chat:app``, then subscribe to ``room:lobby`` and publish to it."""

from umbel import Client, Umbel

app = Umbel()
ROOMS = ("lobby", "kitchen")


@app.channel("room:{room}", publish=lambda client, room, data: room in ROOMS)
async def join(client: Client, room: str) -> bool:
    return room in ROOMS


if __name__ == "__main__":
    app.run(port=8000)

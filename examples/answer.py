"""An AI answer that survives a reload: ``python answer.py``, then open http://127.0.0.1:8000/ and ask."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from umbel import Message, Request, Run, Umbel

app = Umbel()
app.page("/", Path(__file__).with_suffix(".html"))


@app.authenticate
def who(request: Request) -> str | None:
    return request.token  # the secret of a browser; a real application has users


@app.stream("ask")
async def answer(run: Run, message: Message) -> AsyncIterator[str]:
    for word in f"You asked: {message.data} Let me think about that for a while.".split():
        await asyncio.sleep(0.2)  # a model would take its time here
        yield f"{word} "


if __name__ == "__main__":
    app.run(port=8000)

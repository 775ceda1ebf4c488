"""Mistakes that a type checker must find: each line with an ignore would be an error without it.

mypy's warn_unused_ignores makes the ignores themselves the test.
"""

from umbel import Client, Message, Umbel

app = Umbel(tock=1)  # type: ignore[call-arg]
Umbel(1)  # type: ignore[call-arg, arg-type]
Umbel(tick="fast")  # type: ignore[arg-type]
app.channel("a", mode="some")  # type: ignore[arg-type]
app.channel("a", True)  # type: ignore[call-arg]
app.run(8000)  # type: ignore[call-arg, arg-type]
app.publish(1, 2)  # type: ignore[arg-type]
app.publish("a")  # type: ignore[call-arg]


@app.on("a")  # type: ignore[type-var]
async def one_argument(message: Message) -> None: ...


@app.stream("b")  # type: ignore[type-var]
async def no_generator(client: Client, message: Message) -> None: ...


@app.on_disconnect  # type: ignore[type-var]
def no_code(client: Client) -> None: ...


@app.background  # type: ignore[type-var]
def not_async() -> None: ...

"""``umbel tail``: prints what comes in channels, as JSON lines."""

import argparse
import asyncio
import os
import sys
from contextlib import suppress

import orjson

from umbel._serving import stderr
from umbel.client import State, Subscription, SubscriptionFailed, connect
from umbel.exceptions import ConnectionClosed


def tail(parsed: argparse.Namespace) -> int:
    """Print until a signal comes, or nothing can come any more.

    Returns:
        the exit code: 1 if a channel or the server could not be had, 2 if the URL is none.
    """
    try:
        return 0 if asyncio.run(follow_all(parsed.url, parsed.channel)) else 1
    except KeyboardInterrupt:
        return 0
    except (ConnectionClosed, ValueError) as error:
        say(str(error))
        return 2 if isinstance(error, ValueError) else 1
    except BrokenPipeError:  # the reader of the lines has seen enough
        with suppress(OSError):  # the interpreter writes what is left when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


async def follow_all(url: str, channels: list[str]) -> bool:
    """Print the updates of all channels. Returns whether each could be had."""
    async with connect(url, token=os.environ.get("UMBEL_TOKEN"), on_state=Report()) as umbel:
        return all(await asyncio.gather(*(follow(umbel.subscribe(channel)) for channel in channels)))


async def follow(updates: Subscription) -> bool:
    try:
        async for batch in updates.batches():
            lines = [orjson.dumps(update, option=orjson.OPT_APPEND_NEWLINE) for update in batch]
            sys.stdout.buffer.write(b"".join(lines))
            sys.stdout.buffer.flush()
            for update in batch:
                if "gap" in update:
                    say(f"{updates.channel}: publications are missing here: {update['gap']['reason']}")
    except SubscriptionFailed as error:
        say(str(error))
        return False
    say(f"{updates.channel}: {updates.reason}")
    return True


class Report:
    """Says on standard error when the connection is lost, and when it is there again."""

    def __init__(self) -> None:
        self._lost = False

    def __call__(self, state: State) -> None:
        if state.name == "waiting" and state.retry_in is not None:
            self._lost = True
            say(f"no connection ({state.code} {state.reason}), next attempt in {state.retry_in:.1f} s")
        elif state.name == "connected" and self._lost:
            self._lost = False
            say("connected again")


def say(text: str) -> None:
    stderr.handler().write(f"umbel: {text}")

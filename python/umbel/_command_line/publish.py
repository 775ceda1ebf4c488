"""``umbel publish``: publishes to a server that takes calls over HTTP."""

import argparse
import http.client
import json
import os
import ssl
import sys
from typing import Final
from urllib.parse import urlsplit

from .loading import CommandError


def publish(parsed: argparse.Namespace) -> int:
    """Publish, and print the answer.

    Raises:
        CommandError: if the URL or the JSON is none, or the server can't be reached or does not publish.
    """
    text = sys.stdin.read() if parsed.json == "-" else parsed.json
    try:
        data = json.loads(text)
    except ValueError as error:
        hint = f"; for a text write '\"{text}\"'" if text.isprintable() and text.isalnum() else ""
        raise CommandError(f"the data are not JSON: {error}{hint}", 2) from error
    publication = {"channel": parsed.channel, "data": data, "key": parsed.key, "event": parsed.event}
    body = json.dumps(
        {name: value for name, value in publication.items() if value is not None or name == "data"}
    )
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get(VARIABLE):
        headers["Authorization"] = f"Bearer {token}"
    if parsed.idempotency_key is not None:
        headers["Idempotency-Key"] = parsed.idempotency_key
    status, answer = post(parsed.url, body.encode(), headers)
    print(answer.strip())  # noqa: T201 - it is what the command is for
    if status == NOT_FOUND and not answer.startswith("{"):
        raise CommandError('nothing is published there: set publish_path="/api/v1/publish" on the server', 1)
    return 0 if status == OK else 1


def post(url: str, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    """Send a body, and return status and text of the answer.

    Raises:
        CommandError: if the URL is none, or nobody answers.
    """
    parts = urlsplit(url)
    try:
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it begins with http:// or https:// and a host")
        address = (parts.hostname, parts.port)
    except ValueError as error:
        raise CommandError(f"{url!r} is no URL to publish to: {error}", 2) from error
    connection = (
        http.client.HTTPSConnection(*address, timeout=PATIENCE, context=ssl.create_default_context())
        if parts.scheme == "https"
        else http.client.HTTPConnection(*address, timeout=PATIENCE)
    )
    try:
        connection.request("POST", parts.path if parts.path.strip("/") else PATH, body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CommandError(f"{url} does not answer: {error}", 1) from error
    finally:
        connection.close()


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "publish",
        help="publish to a channel of a running server",
        description="Publish to a channel of a server that has publish_path, and print the answer.\n"
        f"The variable {VARIABLE} has the token, where the server needs one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("url", help=f"as in http://127.0.0.1:8000; without a path it is {PATH}")
    command.add_argument("channel", help="the name of the channel")
    command.add_argument(
        "json", help='the data, as in \'{"text": "hello"}\'; - reads them from standard input'
    )
    command.add_argument("--key", help="the key of the publication")
    command.add_argument("--event", help="the name of its event on streams with ?events=single")
    command.add_argument(
        "--idempotency-key", metavar="KEY", help="a repetition with the same key is not published again"
    )


VARIABLE: Final = "UMBEL_TOKEN"
PATH: Final = "/api/v1/publish"
PATIENCE: Final = 30.0
"""Seconds."""

OK: Final = 200
NOT_FOUND: Final = 404

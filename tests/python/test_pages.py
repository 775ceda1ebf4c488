"""The client for web pages, as a server answers it."""

from __future__ import annotations

import asyncio
import gzip
import urllib.request
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError

import pytest
from umbel import ConfigurationError, Umbel
from umbel._serving.pages import Script, all_pages

ROOT = Path(__file__).resolve().parents[2]


def get(url: str, **headers: str) -> tuple[int, Message, bytes]:
    """Status, headers and body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=named), timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


async def ask(app: Umbel, path: str, **headers: str) -> tuple[int, Message, bytes]:
    async with app.serve(port=0) as server:
        return await asyncio.to_thread(get, server.url + path, **headers)


async def test_the_file_that_is_served_is_the_one_in_the_repository(app: Umbel) -> None:
    status, _, body = await ask(app, "/umbel/client.js")
    assert (status, body) == (200, (ROOT / "clients" / "js" / "umbel.js").read_bytes())
    status, headers, packed = await ask(app, "/umbel/client.js", Accept_Encoding="gzip, br")
    assert (status, headers["Content-Encoding"], gzip.decompress(packed)) == (200, "gzip", body)


async def test_the_file_with_the_hash_is_kept_for_good_and_the_other_is_asked_for_again(app: Umbel) -> None:
    assert (await ask(app, app.client_script))[1]["Cache-Control"] == "public, max-age=31536000, immutable"
    headers = (await ask(app, "/umbel/client.js"))[1]
    assert headers["Cache-Control"] == "no-cache"
    assert (await ask(app, "/umbel/client.js", If_None_Match=headers["ETag"]))[0] == 304
    assert (await ask(app, "/umbel/client-000000000000.js"))[0] == 404


async def test_pages_of_every_origin_may_have_it(app: Umbel) -> None:
    headers = (await ask(app, app.client_script, Origin="https://elsewhere.example"))[1]
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert headers["Content-Type"] == "text/javascript; charset=utf-8"


async def test_a_setting_switches_it_off() -> None:
    app = Umbel(serve_client=False)
    assert [(await ask(app, path))[0] for path in ("/umbel/client.js", app.client_script)] == [404, 404]


def test_an_application_has_no_page_in_its_place(app: Umbel) -> None:
    with pytest.raises(ConfigurationError, match="belongs to Umbel itself"):
        app.page("/umbel/client.js", "mine")


def test_another_file_has_another_path(tmp_path: Path) -> None:
    file = tmp_path / "umbel.js"
    file.write_text("1")
    one = Script.read(file)
    file.write_text("2")
    assert one.path != Script.read(file).path


def test_pages_of_the_application_are_asked_for_again() -> None:
    headers, body, packed = all_pages({"/": ("text/html", b"<p>")}, with_client=False)["/"]
    assert (headers, body, packed) == (
        [("Content-Type", "text/html"), ("Cache-Control", "no-cache")],
        b"<p>",
        None,
    )

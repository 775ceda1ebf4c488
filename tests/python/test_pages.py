"""The client for web pages, as a server answers it."""

from __future__ import annotations

import asyncio
import gzip
import re
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


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/umbel/client.js", "umbel.js"),
        ("/umbel/stream.js", "stream.js"),
        ("/umbel/state.js", "state.js"),
        ("/umbel/presence.js", "presence.js"),
    ],
)
async def test_the_file_that_is_served_is_the_one_in_the_repository(app: Umbel, path: str, name: str) -> None:
    status, headers, body = await ask(app, path)
    assert (status, body) == (200, (ROOT / "clients" / "js" / name).read_bytes())
    assert headers["Cache-Control"] == "no-cache"
    assert (await ask(app, path, If_None_Match=headers["ETag"]))[0] == 304
    status, headers, packed = await ask(app, path, Accept_Encoding="gzip, br")
    assert (status, headers["Content-Encoding"], gzip.decompress(packed)) == (200, "gzip", body)


async def test_the_file_with_the_hash_is_kept_for_good(app: Umbel) -> None:
    assert (await ask(app, app.client_script))[1]["Cache-Control"] == "public, max-age=31536000, immutable"
    assert (await ask(app, "/umbel/client-000000000000.js"))[0] == 404


def test_what_the_client_loads_is_beside_it(app: Umbel) -> None:
    loaded = re.findall(r'import\("\./(.+?)"\)', (ROOT / "clients" / "js" / "umbel.js").read_text())
    beside = app.client_script.rpartition("/")[0]
    files = ("stream.js", "state.js", "presence.js")
    assert [f"{beside}/{name}" for name in loaded] == [f"/umbel/{name}" for name in files]


@pytest.mark.parametrize("name", ["client", "stream", "state", "presence"])
async def test_pages_of_every_origin_may_have_it(app: Umbel, name: str) -> None:
    path = app.client_script if name == "client" else f"/umbel/{name}.js"
    headers = (await ask(app, path, Origin="https://elsewhere.example"))[1]
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert headers["Content-Type"] == "text/javascript; charset=utf-8"


async def test_a_setting_switches_it_off() -> None:
    app = Umbel(serve_client=False)
    beside = [f"/umbel/{name}.js" for name in ("stream", "state", "presence")]
    paths = ["/umbel/client.js", app.client_script, *beside]
    assert [(await ask(app, path))[0] for path in paths] == [404] * len(paths)


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

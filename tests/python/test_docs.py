"""What the documentation says, compared with what is there: examples, messages, codes, settings, bounds."""

from __future__ import annotations

import ast
import inspect
import json
import pathlib
import re
import subprocess
import sys
from dataclasses import fields
from typing import Any

import jsonschema
import pytest
import websockets
from pages import PAGES, blocks, examples
from serving import ROOT, Server, running
from umbel import Settings, _core
from umbel._declaring.declarations import RESERVED
from umbel._declaring.settings import PYTHON_ONLY
from umbel.exceptions import RESERVED_CODES

PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
SCHEMA: dict[str, Any] = json.loads((ROOT / "docs" / "protocol.schema.json").read_text())


def rows(text: str, header: str) -> list[list[str]]:
    """Return the cells of the table whose header line begins so."""
    lines = text[text.index(f"\n{header}") :].split("\n\n")[0].strip().splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def source(path: str) -> str:
    return (ROOT / path).read_text()


# Examples


async def receive(socket: websockets.ClientConnection, kind: str) -> dict[str, Any]:
    async for text in socket:
        if (message := json.loads(text))["type"] == kind:
            return message
    raise AssertionError(f"the connection ended before {kind} came")


async def test_the_sixty_seconds_example_is_short_and_a_chat(tmp_path: pathlib.Path) -> None:
    code = examples(ROOT / "README.md")[0]
    assert len(code.splitlines()) <= 10
    main = tmp_path / "main.py"
    main.write_text(code.replace("port=8000", "port=0"))
    with running(Server(sys.executable, main)) as server:
        async with websockets.connect(server.url()) as one, websockets.connect(server.url()) as other:
            for socket in (one, other):
                await socket.send('{"type": "subscribe_updates", "channel": "room:lobby"}')
                await receive(socket, "subscription_established")
            await one.send('{"type": "publish", "channel": "room:lobby", "data": "hello"}')
            for socket in (one, other):
                update = (await receive(socket, "batched_updates"))["updates"][0]
                assert (update["channel"], update["offset"], update["data"]) == ("room:lobby", 1, "hello")
            await one.send('{"type": "subscribe_updates", "channel": "room:attic"}')
            assert (await receive(one, "error"))["code"] == "not_allowed"


async def test_the_longer_example_does_what_it_says() -> None:
    space: dict[str, Any] = {"__name__": "example"}
    exec(examples(ROOT / "README.md")[1], space)
    async with space["app"].serve(port=0) as server:
        url = server.url.replace("http", "ws") + "/ws"
        async with websockets.connect(url) as stranger:
            assert (await receive(stranger, "error"))["code"] == "unauthenticated"
            await stranger.wait_closed()
            assert stranger.close_code == 4401
        subprotocols: Any = ["umbel.v1.first", "umbel.v1"]
        async with websockets.connect(url, subprotocols=subprotocols) as ada:
            await ada.send('{"type": "authenticate", "token": "s3cret"}')
            await ada.send('{"type": "subscribe_updates", "channel": "sensor:kitchen"}')
            await receive(ada, "subscription_established")
            await ada.send('{"type": "measure", "id": 7, "data": 21.5}')
            assert (await receive(ada, "measure_result"))["data"] == {"offset": 1}
            await ada.send('{"type": "ai_chat_request", "data": {"prompt": "hi there"}}')
            text, done = "", False
            while not done:
                for update in (await receive(ada, "batched_updates"))["updates"]:
                    if update["channel"].startswith("run:"):
                        text += update["data"].get("chunk", "")
                        done |= update["data"].get("status") == "complete"
            assert text == "You said: hi there "


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_examples_of_the_other_pages_run(page: pathlib.Path) -> None:
    for code in examples(page):
        exec(code, {"__name__": "example"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shell_commands_can_be_parsed_and_name_what_is_there(page: pathlib.Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", source("Makefile"), re.MULTILINE))
    for code in blocks(page, "sh"):
        done = subprocess.run(["bash", "-n"], input=code, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert set(re.findall(r"^make ([a-z-]+)", code, re.MULTILINE)) <= targets
        for path in re.findall(r"^python (\S+\.py)", code, re.MULTILINE):
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: pathlib.Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        place, _, anchor = target.partition("#")
        if "://" in target:
            continue
        linked = page.parent / place if place else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert anchor in [heading.lower().replace(" ", "-") for heading in headings], target


# The protocol


def definition(name: str) -> tuple[set[str], set[str]]:
    """Return the fields of a message besides ``type``, and those that may be left out."""
    schema = SCHEMA["$defs"][name]
    properties, required = set(schema["properties"]), set(schema["required"])
    for part in schema.get("allOf", ()):
        base = SCHEMA["$defs"][part["$ref"].rpartition("/")[2]]
        properties |= set(base["properties"])
        required |= {field for choice in base.get("oneOf", [base]) for field in choice["required"]}
    return properties - {"type"}, properties - required - {"type"}


def test_the_tables_of_messages_say_what_the_schema_says() -> None:
    documented: dict[str, list[str]] = {}
    for section in ("## Client to server", "## Server to client"):
        for cells in rows(PROTOCOL[PROTOCOL.index(section) :], "| type | fields |"):
            documented |= {name: words(cells[1]) for name in words(cells[0])}
    streams = rows(PROTOCOL, "| event | fields | meaning |")
    own = {"heartbeat": "stream_heartbeat"}
    documented |= {own.get(name, name): words(cells[1]) for cells in streams for name in words(cells[0])}
    documented |= {"update": words(rows(PROTOCOL, "| part | fields |")[0][1])}
    parts = [
        SCHEMA["$defs"][side]["oneOf"] for side in ("client_message", "server_message", "stream_message")
    ]
    known = {part["$ref"].rpartition("/")[2] for side in parts for part in side}
    known -= {"application_message", "application_result", "ai_cancel_result"}
    assert set(documented) == known | {"update"}
    for name, said in documented.items():
        properties, optional = definition(name)
        assert {field.rstrip("?") for field in said} == properties, name
        assert {field.rstrip("?") for field in said if field.endswith("?")} == optional, name


def test_the_table_of_a_run_says_what_the_schema_says() -> None:
    table = {words(cells[0])[0]: words(cells[1]) for cells in rows(PROTOCOL, "| `type` | fields besides")}
    assert set(table) == {part["$ref"].rpartition("/")[2] for part in SCHEMA["$defs"]["run_data"]["oneOf"]}
    for name, said in table.items():
        assert definition(name)[0] - {"conversationId", "runId"} == set(said) & {
            "chunk",
            "status",
            "incident",
        }


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_close_codes_are_those_of_the_core() -> None:
    table = rows(PROTOCOL, "| code | name |")
    documented = [(int(code), words(name)[0], meaning, back == "yes") for code, name, meaning, back in table]
    assert documented == _core.CLOSE_CODES
    assert SCHEMA["$defs"]["close_code"]["enum"] == [code for code, *_ in _core.CLOSE_CODES]


def test_the_close_reasons_are_those_of_the_core() -> None:
    table = rows(PROTOCOL, "| code | reason | caused by |")
    documented = [(None if code == "none" else int(code), text, cause) for code, text, cause in table]
    assert documented == _core.CLOSE_REASONS


def test_the_error_codes_are_those_of_the_core() -> None:
    table = rows(PROTOCOL, "| code | meaning | whose fault |")
    assert [
        (words(code)[0], meaning, fault == "client") for code, meaning, fault in table
    ] == _core.ERROR_CODES
    assert SCHEMA["$defs"]["error_code"]["enum"] == [name for name, *_ in _core.ERROR_CODES]


def test_every_error_code_is_sent_and_no_other() -> None:
    names = {code for code, *_ in _core.ERROR_CODES}
    text = "".join(path.read_text() for path in (ROOT / "src").rglob("*.rs") if path.name != "error_code.rs")
    sent = {
        re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
        for name in re.findall(r"ErrorCode::([A-Z][a-z]\w+)", text)
    }
    for module in (ROOT / "python" / "umbel").rglob("*.py"):
        pattern = r'(?:ClientError|fail|reply_error)\((?:\s*|number, )"(\w+)"'
        sent |= set(re.findall(pattern, module.read_text()))
    assert sent == names


def test_names_of_later_versions_are_reserved() -> None:
    later = PROTOCOL[PROTOCOL.index("## Not in this version") :]
    assert "`snapshot`" in later
    assert "snapshot" in RESERVED
    known = {code for code, *_ in _core.CLOSE_CODES}
    assert known >= set(RESERVED_CODES)


# Settings and constants


def test_the_page_of_settings_repeats_the_class() -> None:
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", inspect.getdoc(Settings) or "", re.MULTILINE)
    meanings = {name: " ".join(body.split()).replace("``", "`") for name, body in entries}
    table = rows(source("docs/settings.md"), "| setting |")
    page = {words(name)[0]: (words(default)[0], meaning) for name, default, meaning in table}
    names = [field.name for field in fields(Settings)]
    assert list(page) == list(meanings) == names
    for field in fields(Settings):
        default, meaning = page[field.name]
        value = eval(default) if "<<" in default else ast.literal_eval(default)
        assert (value, meaning) == (field.default, meanings[field.name])


def test_the_core_knows_the_settings_that_it_is_given() -> None:
    config = re.search(r"pub struct Config \{\n(.*?)\n\}", source("src/config.rs"), re.DOTALL)
    assert config
    known = set(re.findall(r"^    pub (\w+):", config[1], re.MULTILINE))
    structure = {"websocket_routes", "authenticate", "channels"}
    structure |= {"await_connect", "notify_connect"}
    assert known == {field.name for field in fields(Settings)} - PYTHON_ONLY | structure


def test_every_close_code_of_the_table_is_sent() -> None:
    table = source("src/close.rs")
    names = re.findall(r"^    ([A-Z_]+) = \d{4}, ", table, re.MULTILINE)
    assert len(names) == len(_core.CLOSE_CODES)
    used = "".join(path.read_text() for path in (ROOT / "src").rglob("*.rs"))
    python = {"NOT_ALLOWED", "REVOKED"}  # the application chooses the one, and revokes with the other
    assert [name for name in names if f"CloseCode::{name}" not in used and name not in python] == []


def test_the_subprotocol_has_one_name() -> None:
    places = [*PAGES, *(ROOT / "docs").glob("*.json"), *(ROOT / "python" / "umbel" / "demo").glob("*")]
    named = {
        name
        for place in places
        if place.is_file()
        for name in re.findall(r"umbel\.v\d+(?:\.first)?", place.read_text())
    }
    assert named == set(_core.SUBPROTOCOLS)


def test_the_bounds_are_those_of_the_sources() -> None:
    for what, value, where, _ in rows(source("docs/architecture.md"), "| bound | value |"):
        path, name = words(where)
        found = re.search(rf"^.*\b{name}: \w+ = ([^;\n]+);?$", source(path), re.MULTILINE)
        assert found, f"{name} is not in {path}"
        assert [found[1]] == words(value), what


def test_the_ways_through_the_files_can_be_followed() -> None:
    text = source("docs/architecture.md")
    text = text[text.index("## Three ways through the files") :].split("\n## ")[0]
    ways = re.split(r"^\*\*", text, flags=re.MULTILINE)[1:]
    assert [way.split(",")[0].rstrip("*") for way in ways] == ["A publication", "A message", "A run"]
    for way in ways:
        steps = re.findall(r"^\d+\. `([^`]+)` `(\w+)`", way, re.MULTILINE)
        assert len(steps) > 5
        for path, function in steps:
            assert re.search(rf"\b(?:fn|def) {function}\b", source(path)), f"{function} is not in {path}"

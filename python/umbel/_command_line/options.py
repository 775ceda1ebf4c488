"""The options of the command. Every setting is an option of ``umbel run``."""

import argparse
import difflib
import inspect
import re
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any

from umbel._core import __version__
from umbel._declaring.settings import KINDS, Settings

from . import load, load_merge, publish, token


def parser() -> argparse.ArgumentParser:
    """Make the parser; every setting is an option of ``umbel run``."""
    main_parser = argparse.ArgumentParser(prog="umbel", description="Real-time server for Python.")
    main_parser.add_argument("--version", action="version", version=f"umbel {__version__}")
    commands = main_parser.add_subparsers(dest="command", metavar="command")
    serve = commands.add_parser(
        "run",
        usage="umbel run [options] module:app",
        help="serve an application",
        description="Serve until SIGINT or SIGTERM.\n"
        "An option replaces what the application says. Where neither says anything, the default counts.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument(
        "app", metavar="module:app", help="the application, as in main:app for app in main.py here"
    )
    serve.add_argument(
        "--uvloop",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="use uvloop (default: if it is installed)",
    )
    serve.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        help="what the log of Umbel has (default: info, or what the application has configured)",
    )
    serve.add_argument(
        "--log-format",
        choices=("text", "json"),
        help="how the lines of the log look: for people, or as JSON for programs (default: text, or what "
        "the application has configured)",
    )
    texts = documented()
    for field in fields(Settings):
        add_option(serve, field.name, KINDS[field.name], texts.get(field.name, "") + default_of(field))
    commands.add_parser("demo", help="serve a live demonstration", add_help=False)
    tail = commands.add_parser(
        "tail",
        help="print what comes in channels",
        description="Print each update of some channels as a line of JSON, until Ctrl-C.\n"
        "After a lost connection it goes on. A line with a gap says that something was missed.\n"
        "The variable UMBEL_TOKEN has the token for the application, if it needs one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tail.add_argument("url", help="of the server, as in ws://127.0.0.1:8000/ws")
    tail.add_argument("channel", nargs="+", help="name of a channel; @ for direct messages to this client")
    load.add_command(commands)
    load_merge.add_command(commands)
    publish.add_command(commands)
    token.add_command(commands)
    for command in commands.choices.values():
        command.set_defaults(help_text=command.format_help)
    return main_parser


def meant(unknown: list[str], help_text: str) -> str:
    """Say which options are meant, perhaps, by words that are none of this command."""
    options = re.findall(r"^  (?:-\w, )?(--[\w-]+)", help_text, re.MULTILINE)
    names = [word.partition("=")[0] for word in unknown if word.startswith("--")]
    near = [match for name in names for match in difflib.get_close_matches(name, options, n=1)]
    return f". Did you mean {' or '.join(near)}?" if near else ""


def add_option(command: argparse.ArgumentParser, name: str, annotation: str, text: str) -> None:
    """Add the option of one setting. When the option is not used, the result does not have it."""
    flag = "--" + name.replace("_", "-")
    text = text.replace("%", "%%")
    base = annotation.removesuffix(" | None")
    if base == "bool":
        command.add_argument(
            flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text
        )
        return
    action, metavar = "store", base.upper()
    kind: Callable[[str], object] = {"int": int, "float": float}.get(base, str)
    if base.startswith("Sequence"):
        every = ", or * for all" if "Literal" in base else ""
        action, metavar = "append", name.rpartition("_")[2].removesuffix("s").upper()
        text = f"{text}; once for each{every}"
    elif name.endswith("_mode"):
        kind, metavar = or_none(octal, "octal number"), "OCTAL|none"
    elif base != annotation and base != "str":
        kind, metavar = or_none(kind, base), f"{metavar}|none"
    command.add_argument(
        flag, action=action, type=kind, metavar=metavar, default=argparse.SUPPRESS, help=text
    )


def or_none(kind: Callable[[str], object], name: str) -> Callable[[str], object]:
    """Make a reader of values that may be ``none``."""

    def read(text: str) -> object:
        return None if text.lower() == "none" else kind(text)

    read.__name__ = name  # argparse shows it
    return read


def octal(text: str) -> int:
    """Read permissions as chmod does: ``660``, or as Python writes them: ``0o660``."""
    return int(text, 8)


def default_of(field: Field[Any]) -> str:
    """Say the default of a setting, unless it says nothing."""
    if field.default is None or field.default is False or field.default == ():
        return ""
    return f" (default: {'on' if field.default is True else field.default})"


def documented() -> dict[str, str]:
    """Return the first sentence of each field's documentation in `Settings`, as plain text."""
    text = (inspect.getdoc(Settings) or "").replace("``None``", "none").replace("``", "")
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", text, re.MULTILINE)
    return {name: re.split(r"\.\s", " ".join(body.split()) + " ")[0] for name, body in entries}

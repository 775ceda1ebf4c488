"""The options of the command. Every setting is an option of ``umbel run``."""

import argparse
import inspect
import re
from collections.abc import Callable

from umbel._core import __version__
from umbel._declaring.settings import KINDS, Settings


def parser() -> argparse.ArgumentParser:
    """Make the parser; every setting is an option of ``umbel run``."""
    main_parser = argparse.ArgumentParser(prog="umbel", description="Real-time server for Python.")
    main_parser.add_argument("--version", action="version", version=f"umbel {__version__}")
    commands = main_parser.add_subparsers(dest="command", metavar="command")
    serve = commands.add_parser(
        "run",
        help="serve an application",
        description="Serve until SIGINT or SIGTERM. Options replace the settings of the application.",
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
    texts = documented()
    for name, annotation in KINDS.items():
        add_option(serve, name, annotation, texts.get(name, ""))
    commands.add_parser("demo", help="serve a live demonstration", add_help=False)
    return main_parser


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
        action, metavar, text = "append", "ORIGIN", f"{text}; once for each, or * for all"
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


def documented() -> dict[str, str]:
    """Return the first sentence of each field's documentation in `Settings`."""
    text = inspect.getdoc(Settings) or ""
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", text, re.MULTILINE)
    return {name: re.split(r"\.\s", " ".join(body.split()) + " ")[0] for name, body in entries}

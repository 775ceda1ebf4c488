"""The command line: ``umbel run``, ``umbel demo``, ``umbel --version``.

Exit codes: 0 after a graceful stop, 1 when the server could not start or failed, 2 when the command was
wrong.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import importlib.util
import inspect
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from umbel._application import Umbel
from umbel._core import __version__
from umbel._declaring.settings import KINDS, Settings
from umbel._serving import stderr
from umbel._serving.process import Process
from umbel._serving.server import Server
from umbel.exceptions import ConfigurationError


class CommandError(Exception):
    """Ends the command with a message that names the cause and the cure."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: without the program's name; those of the process when not given.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["demo"]:  # its options are its own
        return demo(words[1:])
    try:
        parsed = parser().parse_args(words)
    except SystemExit as end:  # argparse has printed what was wrong
        return end.code if isinstance(end.code, int) else 2
    if parsed.command is None:
        parser().print_help()
        return 2
    try:
        return run(parsed)
    except CommandError as error:
        complain(f"umbel: {error}")
        return error.code


def run(parsed: argparse.Namespace) -> int:
    """Serve an application until a signal comes.

    Raises:
        CommandError: if it can't be loaded or can't start.
    """
    app = load(parsed.app)
    options = {name: getattr(parsed, name) for name in KINDS if hasattr(parsed, name)}
    if options.get("origins") == ["*"]:
        options["origins"] = "*"
    try:
        settings = app.settings.replace(**options)
        Process(Server(app, settings), uvloop=parsed.uvloop, listening=announce).run()
    except ConfigurationError as error:
        raise CommandError(f"{parsed.app} can't be served: {error}", 1) from error
    except OSError as error:
        raise CommandError(explain(error, settings), 1) from error
    except (TypeError, ValueError, RuntimeError) as error:
        raise CommandError(f"{error}", 1) from error
    return 0


def demo(words: Sequence[str]) -> int:
    """Run the demo, which reads its own options."""
    try:
        module: Any = importlib.import_module("umbel.demo")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("umbel.demo"):
            raise
        complain("umbel: this installation has no demo")
        return 1
    result = module.main(list(words))
    return result if isinstance(result, int) else 0


def announce(server: Server) -> None:
    """Say where the server listens, unless the log says so here: people and scripts wait for this line."""
    logger = logging.getLogger("umbel")
    if stderr.handler() in logger.handlers and logger.isEnabledFor(logging.INFO):
        return
    for address in server.addresses:
        stderr.handler().write(f"listening on {address}")


def complain(text: str) -> None:
    """Say what went wrong."""
    stderr.handler().write(text)
    stderr.handler().flush()


def load(name: str) -> Umbel:
    """Import the application that ``module:attribute`` names; without an attribute the only one of the
    module.

    Raises:
        CommandError: if there is no such module or application, or the module fails.
    """
    module_name, _, attribute = name.partition(":")
    if module_name.endswith(".py"):
        suggestion = ".".join(Path(module_name).with_suffix("").parts)
        raise CommandError(
            f"{name!r} is a file, not a module: try `umbel run {suggestion}:{attribute or 'app'}`"
        )
    if not all(module_name.split(".")):
        raise CommandError(f"{name!r} does not name an application: write module:attribute, as in main:app")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise CommandError(
                f"importing {module_name!r} failed: {error}. Install what it needs, then try again", 1
            ) from error
        raise CommandError(
            f"no module named {error.name!r} in {os.getcwd()} or installed{similar(module_name)}"
        ) from error
    except ConfigurationError as error:
        raise CommandError(f"{place(error)}: {error}", 1) from error
    except Exception as error:
        traceback.print_exception(error.with_traceback(own_part(error)))
        raise CommandError(f"importing {module_name!r} failed", 1) from error
    apps = [key for key, value in vars(module).items() if isinstance(value, Umbel)]
    known = f"; it has {' and '.join(f'{module_name}:{key}' for key in apps)}" if apps else "; it has none"
    if not attribute:
        if len(apps) != 1:
            raise CommandError(
                f"name one application of module {module_name!r}, as in {module_name}:app{known}"
            )
        attribute = apps[0]
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise CommandError(f"module {module_name!r} has no application {attribute!r}{known}")
        found = getattr(found, part)
    if not isinstance(found, Umbel):
        raise CommandError(f"{name} is {kind(found)}, not an application made with Umbel(){known}")
    return found


def place(error: BaseException) -> str:
    """Return file and line of the application that an error came from."""
    frames = traceback.extract_tb(error.__traceback__)
    package = str(Path(__file__).parents[1]) + os.sep
    frame = next(frame for frame in reversed(frames) if not frame.filename.startswith(package))
    return f"{frame.filename}:{frame.lineno}"


def own_part(error: BaseException) -> TracebackType | None:
    """Return an error's traceback without the way from here through the import system, as Python shows it."""
    rest = error.__traceback__
    while rest is not None and (
        (name := rest.tb_frame.f_code.co_filename) in (__file__, importlib.__file__)
        or name.startswith("<frozen importlib")
    ):
        rest = rest.tb_next
    return rest


def kind(value: object) -> str:
    """Say in words what a thing is that should be an application."""
    if inspect.isclass(value):
        return f"a class ({value.__name__})"
    if inspect.isfunction(value):
        return "a function"
    if inspect.ismodule(value):
        return "a module"
    return f"of type {type(value).__name__}"


def similar(module_name: str) -> str:
    """Suggest modules of the current directory."""
    import difflib

    here = [entry.stem for entry in Path().glob("*.py")]
    here += [entry.parent.name for entry in Path().glob("*/__init__.py")]
    near = difflib.get_close_matches(module_name, here, n=3)
    if near:
        return ". Did you mean " + " or ".join(near) + "?"
    return (
        f". Modules here: {', '.join(sorted(here)[:8])}"
        if here
        else ". Run it from the directory with your module"
    )


def explain(error: OSError, settings: Settings) -> str:
    """Turn an error of the operating system at the start into its cause and its cure."""
    where = settings.unix_socket or f"{settings.host}:{settings.port}"
    number = error.errno
    if number is None and (found := re.search(r"\(os error (\d+)\)", str(error))):  # from the core
        number = int(found[1])
    if number == errno.EADDRINUSE:
        if settings.unix_socket:
            return (
                f"{where} is in use: another server listens there; stop it, or choose another --unix-socket"
            )
        holder = holder_of(settings.port) or "another program (`ss -ltnp` as root names it)"
        return f"port {settings.port} is taken by {holder}. Stop it, or choose another port with --port"
    if number in (errno.EACCES, errno.EPERM):
        if settings.unix_socket:
            return f"no permission to make {where}: choose a directory that this user may write to"
        return f"no permission to listen on {where}: ports below 1024 need privileges; choose a --port above"
    if number == errno.EADDRNOTAVAIL:
        return f"{settings.host} is not an address of this machine: use --host 127.0.0.1, or 0.0.0.0 for all"
    if number in (errno.EMFILE, errno.ENFILE):
        return "no file descriptors are left: raise the limit (ulimit -n)"
    return error.strerror or str(error)


def holder_of(port: int) -> str | None:
    """Return name and process id of who listens on a TCP port, where the system lets us see it (Linux)."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for descriptor in Path("/proc").glob("[0-9]*/fd/*") if inodes else ():
        try:
            if os.readlink(descriptor) in inodes:
                process = descriptor.parent.parent
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue
    return None


def parser() -> argparse.ArgumentParser:
    """Make the parser; every setting is an option of ``umbel run``."""
    main_parser = argparse.ArgumentParser(prog="umbel", description="Real-time server for Python.")
    main_parser.add_argument("--version", action="version", version=f"umbel {__version__}")
    commands = main_parser.add_subparsers(dest="command", metavar="command")
    serve = commands.add_parser(
        "run",
        help="serve an application",
        description="Serve until SIGINT or SIGTERM. Options override the application's settings.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument(
        "app", metavar="module:app", help="the application, as in main:app; the module is looked for here"
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
    """Add the option of one setting; where it is not given, the result does not have it."""
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
        action, metavar, text = "append", "ORIGIN", f"{text}; once for each"
    elif base != annotation and base != "str":
        kind, metavar = or_none(kind, base), f"{metavar}|none"
    command.add_argument(
        flag, action=action, type=kind, metavar=metavar, default=argparse.SUPPRESS, help=text
    )


def or_none(kind: Callable[[str], object], name: str) -> Callable[[str], object]:
    """Make the reader of a number that may be left out."""

    def read(text: str) -> object:
        return None if text.lower() == "none" else kind(text)

    read.__name__ = name  # argparse says it
    return read


def documented() -> dict[str, str]:
    """Read what the documentation of `Settings` says about each field, up to the first full stop."""
    text = inspect.getdoc(Settings) or ""
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", text, re.MULTILINE)
    return {name: re.split(r"\.\s", " ".join(body.split()) + " ")[0] for name, body in entries}


LISTENING: Final = "0A"
"""TCP_LISTEN in /proc/net/tcp."""

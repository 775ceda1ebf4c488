"""The command line: ``umbel run``, ``demo``, ``tail``, ``publish``, ``token``, ``load``, and ``--version``.

Exit codes: 0 after a graceful stop, 1 when the server could not start or failed, 2 when the command is wrong.
"""

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

from umbel._declaring.settings import KINDS
from umbel._serving import stderr
from umbel._serving.causes import explain
from umbel._serving.process import Process
from umbel._serving.server import Server
from umbel.exceptions import ConfigurationError

from . import load as loads
from . import load_merge
from .loading import CommandError, load
from .options import meant, parser
from .publish import publish
from .token import token


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: without the name of the program; by default those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:2] == load_merge.NAME.split():
        words[:2] = [load_merge.NAME]
    if words[:1] == ["demo"]:  # it has options of its own
        return demo(words[1:])
    try:
        parsed, unknown = parser().parse_known_args(words)
        if unknown:
            hint = meant(unknown, parsed.help_text()) if parsed.command else ""
            parser().error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    except SystemExit as end:  # argparse has printed what was wrong
        return end.code if isinstance(end.code, int) else 2
    if parsed.command is None:
        parser().print_help()
        return 2
    try:
        acts = {
            "tail": tail,
            "publish": publish,
            "token": token,
            "load": loads.load,
            load_merge.NAME: load_merge.load_merge,
            "run": run,
        }
        return acts[parsed.command](parsed)
    except CommandError as error:
        complain(f"umbel: {error}")
        return error.code
    except KeyboardInterrupt:  # a second one, while the first is obeyed
        return loads.INTERRUPTED


def run(parsed: argparse.Namespace) -> int:
    """Serve an application until a signal comes.

    Raises:
        CommandError: if it can't be loaded or can't start.
    """
    stderr.handler().use(parsed.log_format or "text")  # what is wrong with the application, too
    app = load(parsed.app)
    if parsed.log_level:
        logging.getLogger("umbel").setLevel(parsed.log_level.upper())
    options = {name: getattr(parsed, name) for name in KINDS if hasattr(parsed, name)}
    if options.get("origins") == ["*"]:
        options["origins"] = "*"
    try:
        settings = app.settings.replace(**options)
        server = Server(app, settings)
        Process(server, uvloop=parsed.uvloop, log_format=parsed.log_format, listening=announce).run()
    except ConfigurationError as error:
        raise CommandError(f"{parsed.app} can't be served: {error}", 1) from error
    except OSError as error:
        raise CommandError(explain(error, settings), 1) from error
    except (TypeError, ValueError, RuntimeError) as error:
        raise CommandError(f"{error}", 1) from error
    return 0


def tail(parsed: argparse.Namespace) -> int:
    """Print what comes in channels.

    Raises:
        CommandError: if the client's library is not installed.
    """
    try:
        module: Any = importlib.import_module("umbel._command_line.tail")
    except ImportError as error:
        raise CommandError(f"{error}", 1) from error
    return int(module.tail(parsed))


def demo(words: Sequence[str]) -> int:
    """Run the demo."""
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
    """Write where the server listens, unless the log says it on stderr: scripts wait for this line."""
    logger = logging.getLogger("umbel")
    if stderr.handler() in logger.handlers and logger.isEnabledFor(logging.INFO):
        return
    for address in server.addresses:
        stderr.handler().say(logging.INFO, f"listening on {address}")


def complain(text: str) -> None:
    """Write an error."""
    stderr.handler().say(logging.ERROR, text)
    stderr.handler().flush()

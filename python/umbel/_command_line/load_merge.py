"""``umbel load merge``: adds up the results of several loads."""

import argparse
import json
from pathlib import Path
from typing import Any

from umbel.load import LoadResults, merge

from .load_display import add_options, conclude
from .loading import CommandError

NAME = "load merge"
USAGE = 2


def add_command(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser(
        NAME,
        help="add up the results of several loads",
        description="Add up what several loads have found at the same time, in processes or on machines of "
        "their own.",
    )
    command.add_argument("files", nargs="+", metavar="FILE", help="what umbel load --json has written")
    add_options(command)


def load_merge(parsed: argparse.Namespace) -> int:
    """Add up results.

    Raises:
        CommandError: if a file has none, or they do not fit together.
    """
    found = [read(file) for file in parsed.files]
    try:
        return conclude(merge(found), parsed)
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error


def read(file: str) -> LoadResults:
    try:
        return LoadResults.of_json(json.loads(Path(file).read_text("utf-8")))
    except OSError as error:
        raise CommandError(str(error), USAGE) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CommandError(f"{file} can't be added: it is not JSON, as --json writes it", USAGE) from error
    except ValueError as error:
        raise CommandError(f"{file} can't be added: {error}", USAGE) from error

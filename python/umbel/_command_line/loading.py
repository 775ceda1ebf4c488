"""Finds and imports the application that a command names, and explains why that fails."""

import difflib
import importlib
import inspect
import os
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from umbel._application import Umbel
from umbel._serving.process import importing
from umbel.exceptions import ConfigurationError


class CommandError(Exception):
    """Ends the command. The message names the cause and what to do."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


def load(name: str) -> Umbel:
    """Import the application that ``module:attribute`` names. Without an attribute, the module must have one
    application.

    Raises:
        CommandError: if there is no such module or application, or the module raises an error.
    """
    module_name, _, attribute = name.partition(":")
    if module_name.endswith(".py"):
        path = Path(module_name)
        if path.is_absolute() or ".." in path.parts:
            command = f"cd {path.parent} && umbel run {path.stem}:{attribute or 'app'}"
        else:
            command = f"umbel run {'.'.join(path.with_suffix('').parts)}:{attribute or 'app'}"
        raise CommandError(f"{name!r} is a file, not a module: try `{command}`")
    if not all(module_name.split(".")):
        raise CommandError(f"{name!r} does not name an application: write module:attribute, as in main:app")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        with importing():
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise CommandError(
                f"importing {module_name!r} failed: {error}. Install the missing module, then try again", 1
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
                f"choose an application of module {module_name!r}, as in {module_name}:app{known}"
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
    """Return an error's traceback without this module and the import system, as Python shows it."""
    rest = error.__traceback__
    while rest is not None and (
        (name := rest.tb_frame.f_code.co_filename) in (__file__, importlib.__file__)
        or name.startswith("<frozen importlib")
    ):
        rest = rest.tb_next
    return rest


def kind(value: object) -> str:
    """Describe an object that should be an application."""
    if inspect.isclass(value):
        return f"a class ({value.__name__})"
    if inspect.isfunction(value):
        return "a function"
    if inspect.ismodule(value):
        return "a module"
    return f"of type {type(value).__name__}"


def similar(module_name: str) -> str:
    """Suggest modules of the current directory with a similar name."""
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

"""Functions that an application declares: whether they can be called as they will be.

A mistake shows at the line that makes it and not when the first client comes.
"""

import functools
import inspect
from collections.abc import Callable, Iterable

from umbel.exceptions import ConfigurationError


def check_name(name: object, decorator: str, example: str) -> None:
    """Check what a decorator was given for its name: without parentheses it is the function itself.

    Raises:
        ConfigurationError: if it is a function.
        TypeError: if it is no text.
    """
    if isinstance(name, str):
        return
    if callable(name):
        raise ConfigurationError(
            f'@app.{decorator} needs a name: write @app.{decorator}("{example}") above {named(name)}'
        )
    raise TypeError(f'the name for app.{decorator} is a str, as in "{example}", not {type(name).__name__}')


def check_function(function: object, role: str, leading: tuple[str, ...], names: Iterable[str] = ()) -> None:
    """Check a function that returns its answer, or an awaitable of it.

    Args:
        function: what was declared.
        role: what it is for, for the message.
        leading: its positional arguments.
        names: its keyword arguments.

    Raises:
        ConfigurationError: if it is no function, can't be called so, or is a generator: then its body would
            never run, and what it returns be true.
    """
    check_call(function, role, leading, names)
    if is_kind(function, inspect.isgeneratorfunction) or is_kind(function, inspect.isasyncgenfunction):
        raise ConfigurationError(
            f"{named(function)} is a generator and can't be {role}: write return instead of yield"
        )


def check_coroutine_function(
    function: object, role: str, leading: tuple[str, ...], names: Iterable[str] = ()
) -> None:
    """Check a function that runs for a while and returns nothing; the arguments are as above.

    Raises:
        ConfigurationError: if it is no coroutine function, or can't be called so.
    """
    check_call(function, role, leading, names)
    if not is_or_wraps(function, inspect.iscoroutinefunction):
        raise ConfigurationError(f"{named(function)} must be async def without yield to be {role}")


def check_async_generator(function: object, role: str, leading: tuple[str, ...]) -> None:
    """Check a function that yields; the arguments are as above.

    Raises:
        ConfigurationError: if it is no async generator function, or can't be called so.
    """
    check_call(function, role, leading)
    if not is_or_wraps(function, inspect.isasyncgenfunction):
        raise ConfigurationError(
            f"{named(function)} must be an async generator to be {role}: async def with yield"
        )


def check_call(function: object, role: str, leading: tuple[str, ...], names: Iterable[str] = ()) -> None:
    """Check that a function can be called with so many positional arguments and these keywords.

    Raises:
        ConfigurationError: if not; the message shows the call.
    """
    if not callable(function):
        raise ConfigurationError(f"{function!r} is not a function and can't be {role}")
    keywords = dict.fromkeys(names)
    try:
        # Of a decorated function the outermost, which is what gets the arguments.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # some builtins have no signature; the call will tell
        return
    try:
        signature.bind(*leading, **keywords)
    except TypeError as error:
        name = named(function)
        raise ConfigurationError(
            f"{name}{signature} can't be {role}: it is called as {name}({', '.join((*leading, *keywords))})"
        ) from error


def is_kind(function: object, kind: Callable[[object], bool]) -> bool:
    """Ask about a function, or the object whose call it is."""
    while isinstance(function, functools.partial):
        function = function.func
    if not (inspect.isroutine(function) or inspect.isclass(function)):
        function = getattr(type(function), "__call__", function)  # noqa: B004 - not whether it is callable
    return kind(function)


def is_or_wraps(function: object, kind: Callable[[object], bool]) -> bool:
    """Ask about a function and the one that it decorates: a wrapper may hand on what that returns."""
    while isinstance(function, functools.partial):
        function = function.func
    return is_kind(function, kind) or (callable(function) and is_kind(inspect.unwrap(function), kind))


def named(function: object) -> str:
    """Return the name of a function for a message."""
    name: str = getattr(function, "__qualname__", "") or repr(function)
    return name

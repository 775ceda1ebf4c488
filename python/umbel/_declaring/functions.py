"""Checks of the functions that an application declares: can they be called as they will be called?

So a mistake is found at the line that makes it, and not when the first client connects.
"""

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from umbel.exceptions import ConfigurationError


@dataclass(frozen=True, slots=True)
class InThread:
    """A function that is called in a thread, because it blocks. Its caller awaits the result."""

    function: Callable[..., Any]

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call it here. `Threads` calls it elsewhere."""
        return self.function(*arguments, **keywords)


def in_thread(function: Callable[..., Any], role: str) -> InThread:
    """Mark a checked function.

    Raises:
        ConfigurationError: if it is a coroutine function: that does not block.
    """
    if is_or_wraps(function, inspect.iscoroutinefunction):
        raise ConfigurationError(
            f"{named(function)} is async def and can't be {role} with thread=True: "
            "drop one of the two, or call what blocks with asyncio.to_thread"
        )
    return InThread(function)


def check_name(name: object, decorator: str, example: str) -> None:
    """Check the name that a decorator was given. A decorator without parentheses gets the function instead.

    Raises:
        ConfigurationError: if it is a function.
        TypeError: if it is not a str.
    """
    if isinstance(name, str):
        return
    if callable(name):
        raise ConfigurationError(
            f'@app.{decorator} needs a name: write @app.{decorator}("{example}") above {named(name)}'
        )
    raise TypeError(f'the name for app.{decorator} must be a str, as "{example}", not {type(name).__name__}')


def check_function(function: object, role: str, leading: tuple[str, ...], names: Iterable[str] = ()) -> None:
    """Check a function that returns its result, or an awaitable of it.

    Args:
        function: the function.
        role: what it is used as, for the message.
        leading: its positional arguments.
        names: its keyword arguments.

    Raises:
        ConfigurationError: if it is not a function, if it can't be called with these arguments, or if it is a
            generator function. A call of that would never run its body, and would return an object that is
            true.
    """
    check_call(function, role, leading, names)
    if is_kind(function, inspect.isgeneratorfunction) or is_kind(function, inspect.isasyncgenfunction):
        raise ConfigurationError(
            f"{named(function)} is a generator and can't be {role}: use return instead of yield"
        )


def check_coroutine_function(
    function: object, role: str, leading: tuple[str, ...], names: Iterable[str] = ()
) -> None:
    """Check a function that runs for a while and returns nothing. The arguments are as above.

    Raises:
        ConfigurationError: if it is not a coroutine function, or can't be called with these arguments.
    """
    check_call(function, role, leading, names)
    if not is_or_wraps(function, inspect.iscoroutinefunction):
        raise ConfigurationError(f"{named(function)} must be async def without yield to be {role}")


def check_async_generator(function: object, role: str, leading: tuple[str, ...]) -> None:
    """Check a function that yields. The arguments are as above.

    Raises:
        ConfigurationError: if it is not an async generator function, or can't be called with these arguments.
    """
    check_call(function, role, leading)
    if not is_or_wraps(function, inspect.isasyncgenfunction):
        raise ConfigurationError(
            f"{named(function)} must be an async generator to be {role}: async def with yield"
        )


def check_call(function: object, role: str, leading: tuple[str, ...], names: Iterable[str] = ()) -> None:
    """Check that a function can be called with these positional arguments and keywords.

    Raises:
        ConfigurationError: if not. The message shows the call.
    """
    if not callable(function):
        raise ConfigurationError(f"{function!r} is not a function and can't be {role}")
    keywords = dict.fromkeys(names)
    try:
        # Of a decorated function the outermost one: it gets the arguments.
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


def accepts(function: object, name: str) -> bool:
    """Whether a function can be called with this keyword."""
    try:
        parameters = inspect.signature(function, follow_wrapped=False).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):  # no function, or a builtin without a signature
        return False
    found = parameters.get(name)
    if found is not None:
        return found.kind in (found.POSITIONAL_OR_KEYWORD, found.KEYWORD_ONLY)
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return False
    # A decorator that takes anything passes it on. So do a partial call of one, and an object with such a
    # `__call__`.
    while isinstance(function, functools.partial):
        function = function.func
    if not (inspect.isroutine(function) or inspect.isclass(function)):
        function = getattr(function, "__call__", function)  # noqa: B004 - not whether it is callable
    wrapped = getattr(function, "__wrapped__", None)
    return wrapped is None or accepts(wrapped, name)


def is_kind(function: object, kind: Callable[[object], bool]) -> bool:
    """Apply a test to a function, or to the ``__call__`` of an object."""
    while isinstance(function, functools.partial):
        function = function.func
    if not (inspect.isroutine(function) or inspect.isclass(function)):
        function = getattr(type(function), "__call__", function)  # noqa: B004 - not whether it is callable
    return kind(function)


def is_or_wraps(function: object, kind: Callable[[object], bool]) -> bool:
    """Apply a test to a function and the function that it wraps: a wrapper may return what that returns."""
    while isinstance(function, functools.partial):
        function = function.func
    return is_kind(function, kind) or (callable(function) and is_kind(inspect.unwrap(function), kind))


def named(function: object) -> str:
    """Return the name of a function for a message."""
    name: str = getattr(function, "__qualname__", "") or repr(function)
    return name

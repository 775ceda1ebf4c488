"""Jobs: one call each of a function of the application for a client, with what becomes of its result or
failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable, iscoroutine
from typing import TYPE_CHECKING, Any, Final

from orjson import loads

from umbel._clients.client import Client, Message
from umbel._clients.request import Identity, Request
from umbel._core import LONGEST_REASON
from umbel.exceptions import UNAUTHENTICATED

from . import replies

if TYPE_CHECKING:
    from umbel._declaring.routes import Authenticate, ChannelRule, Connect, Disconnect, Handler


class Rejected(Exception):  # noqa: N818 - an outcome: the client's fault, not logged
    """Ends a job with an ``error`` of the given code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Job:
    """One call of a function. The dispatcher calls exactly one of ``done`` and ``fail``, once."""

    __slots__ = ("client", "expired", "task")

    def __init__(self, client: Client | None) -> None:
        self.client = client
        self.task: asyncio.Task[None] | None = None
        self.expired = False

    @property
    def name(self) -> str:
        """What is called, for the log."""
        return "a function"

    @property
    def who(self) -> object:
        """For whom it is called, for the log."""
        return self.client

    def call(self) -> object:
        """Call the function; what it returns may have to be awaited."""
        raise NotImplementedError

    def run(self) -> Awaitable[object] | None:
        """Call the function, and act on its result unless that must be awaited: then return it."""
        value = self.call()
        if isawaitable(value):
            return value
        self.done(value)
        return None

    def done(self, value: object) -> None:
        """Act on the result, in the context in which the function ran."""

    def fail(
        self, code: str, message: str, details: Mapping[str, Any] | None = None, close: int = 1011
    ) -> None:
        """Tell the client; ``close`` is the code with which jobs that let a client in close it."""

    def expire(self) -> None:
        """End the job because its time is over: the client hears of it now, the function is cancelled."""
        if self.task is not None and not self.task.done():
            self.expired = True
            self.fail("timeout", "this took longer than the server allows", {})
            self.task.cancel()


class MessageJob(Job):
    """A message of a client, for the handler of its type."""

    __slots__ = ("handler", "request", "text", "type")

    def __init__(
        self, client: Client, handler: Handler, type: str, request: bytes | None, text: bytes
    ) -> None:
        super().__init__(client)
        self.handler = handler
        self.type = type
        self.request = request
        self.text = text

    @property
    def name(self) -> str:
        return f"handler of {self.type!r}"

    def call(self) -> object:
        assert self.client is not None
        try:
            message = Message(self.type, self.request, self.text)
        except ValueError as error:
            raise Rejected("bad_message", f"this is not JSON that the server reads: {error}") from None
        self.text = b""
        return self.handler(self.client, message)

    def done(self, value: object) -> None:
        if value is ANSWERED or (value is None and self.request is None):
            return
        self._reply(replies.result(self.type, self.request, value))

    def fail(
        self, code: str, message: str, details: Mapping[str, Any] | None = None, close: int = 1011
    ) -> None:
        self._reply(replies.error(code, message, self.request, details))

    def _reply(self, message: bytes) -> None:
        assert self.client is not None
        self.client._dispatcher.core.reply(self.client._key, message)


class SubscribeJob(Job):
    """A wish to subscribe, for the function of the channel's rule."""

    __slots__ = ("channel", "parameters", "rule", "ticket")

    def __init__(
        self, client: Client, rule: ChannelRule, ticket: int, channel: str, parameters: tuple[str, ...]
    ) -> None:
        super().__init__(client)
        self.rule = rule
        self.ticket = ticket
        self.channel = channel
        self.parameters = parameters

    @property
    def name(self) -> str:
        return f"function of channel {self.rule.pattern!r}"

    def call(self) -> object:
        assert self.rule.guard is not None
        return self.rule.guard(self.client, **dict(zip(self.rule.names, self.parameters, strict=True)))

    def done(self, value: object) -> None:
        if decision(self.name, value):
            self._answer(True, "", "")
        else:
            self.fail("not_allowed", f"you may not subscribe to {self.channel}")

    def fail(
        self, code: str, message: str, details: Mapping[str, Any] | None = None, close: int = 1011
    ) -> None:
        self._answer(False, code, explained(message, details))

    def _answer(self, allowed: bool, code: str, message: str) -> None:
        assert self.client is not None
        self.client._dispatcher.core.answer(self.client._key, self.ticket, allowed, code, message)


class PublishJob(SubscribeJob):
    """A wish to publish, for the publish function of the channel's rule."""

    __slots__ = ("data",)

    def __init__(
        self,
        client: Client,
        rule: ChannelRule,
        ticket: int,
        channel: str,
        parameters: tuple[str, ...],
        data: bytes,
    ) -> None:
        super().__init__(client, rule, ticket, channel, parameters)
        self.data = data

    @property
    def name(self) -> str:
        return f"publish function of channel {self.rule.pattern!r}"

    def call(self) -> object:
        assert callable(self.rule.publish)
        try:
            data = loads(self.data)
        except ValueError as error:
            raise Rejected("bad_message", f"this is not JSON that the server reads: {error}") from None
        return self.rule.publish(
            self.client, **dict(zip(self.rule.names, self.parameters, strict=True)), data=data
        )

    def done(self, value: object) -> None:
        if decision(self.name, value):
            self._answer(True, "", "")
        else:
            self.fail("not_allowed", f"you may not publish to {self.channel}")


class AuthenticateJob(Job):
    """The question who is connecting, for clients and websockets alike."""

    __slots__ = ("admit", "function", "refuse", "wanted")

    def __init__(
        self,
        function: Authenticate,
        request: Request,
        admit: Callable[[Identity], None],
        refuse: Callable[[int, str], None],
    ) -> None:
        super().__init__(None)
        self.function = function
        self.wanted = request
        self.admit = admit
        self.refuse = refuse

    @property
    def name(self) -> str:
        return "authenticate"

    @property
    def who(self) -> object:
        return self.wanted

    def call(self) -> object:
        return self.function(self.wanted)

    def done(self, value: object) -> None:
        if value is None:
            self.fail("not_allowed", "authentication required", close=UNAUTHENTICATED)
        else:
            self.admit(Identity.of(value))  # type: ignore[arg-type]  # it checks the type itself

    def fail(
        self, code: str, message: str, details: Mapping[str, Any] | None = None, close: int = 1011
    ) -> None:
        # The core turns the close code into an error with the same text, where the protocol has errors.
        self.refuse(close, explained(message, details))


class ConnectJob(Job):
    """The call of ``on_connect``; the client's messages wait for its end."""

    __slots__ = ("function",)

    def __init__(self, client: Client, function: Connect) -> None:
        super().__init__(client)
        self.function = function

    @property
    def name(self) -> str:
        return "on_connect"

    def call(self) -> object:
        assert self.client is not None
        return self.function(self.client)

    def done(self, value: object) -> None:
        assert self.client is not None
        self.client._dispatcher.connected(self.client, True)

    def fail(
        self, code: str, message: str, details: Mapping[str, Any] | None = None, close: int = 1011
    ) -> None:
        assert self.client is not None
        dispatcher = self.client._dispatcher
        dispatcher.refuse(self.client, close, code, message, details)
        dispatcher.connected(self.client, False)


class DisconnectJob(Job):
    """The call of ``on_disconnect``. Nobody is left to hear of a failure: it is in the log."""

    __slots__ = ("code", "function", "reason")

    def __init__(self, client: Client, function: Disconnect, code: int, reason: str) -> None:
        super().__init__(client)
        self.function = function
        self.code = code
        self.reason = reason

    @property
    def name(self) -> str:
        return "on_disconnect"

    def call(self) -> object:
        assert self.client is not None
        return self.function(self.client, self.code, self.reason)


def decision(name: str, value: object) -> bool:
    """Return what a function said that decides, if it said it clearly: a coroutine that nobody awaited lets
    nobody in.

    Raises:
        TypeError: if the value is neither ``True`` nor ``False``.
    """
    if value is True or value is False:
        return value
    if iscoroutine(value):
        value.close()  # else Python warns that it was never awaited
        said = f"the coroutine {value.__qualname__}; await it first"
    else:
        said = type(value).__name__ if value is not None else "None"
    raise TypeError(f"the {name} must return True or False; it returned {said}")


def explained(message: str, details: Mapping[str, Any] | None) -> str:
    """Put details into the text, for answers that the core writes."""
    return f"{message} (incident {details['incident']})" if details and "incident" in details else message


def shortened(reason: str) -> str:
    """Cut a reason to what a close frame holds, never inside a character."""
    return reason.encode()[:LONGEST_REASON].decode(errors="ignore")


ANSWERED: Final = object()
"""What a handler returns when the answer has been sent already."""

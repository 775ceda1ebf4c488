"""Questions of the core for the functions of channels: may this client subscribe, may it publish?"""

from dataclasses import dataclass
from inspect import iscoroutine
from typing import ClassVar

from orjson import loads

from umbel._declaring.rules import ChannelRule
from umbel._json import encode
from umbel.exceptions import Rejected

from .jobs import ClientError, MessageJob, explained


@dataclass(slots=True, eq=False)
class SubscribeJob(MessageJob):
    """The question whether a client may subscribe, for the function of the channel's rule."""

    verb: ClassVar = "subscribe"
    answers: ClassVar = "True or False"

    question: int
    rule: ChannelRule
    channel: str
    parameters: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"function of channel {self.rule.pattern!r}"

    def call(self) -> object:
        assert self.rule.guard is not None
        return self.rule.guard(self.slot.client, **self.named())

    def named(self) -> dict[str, str]:
        """Return the parameters of the channel's name by their names."""
        return dict(zip(self.rule.names, self.parameters, strict=True))

    def done(self, value: object) -> None:
        if decision(self.name, self.answers, value):
            self.slot.slots.core.allow(self.slot.number, self.question)
        else:
            self.fail("not_allowed", f"you may not {self.verb} to {self.channel}")

    def fail(self, code: str, message: str, incident: str | None = None, close: int = 1011) -> None:
        self.slot.slots.core.deny(self.slot.number, self.question, code, explained(message, incident))

    def reject(self, outcome: Rejected) -> None:
        details = None if outcome.details is None else encode(outcome.details)
        self.slot.slots.core.deny(self.slot.number, self.question, outcome.code, outcome.message, details)


@dataclass(slots=True, eq=False)
class PublishJob(SubscribeJob):
    """The question whether a client may publish, for the publish function of the channel's rule."""

    verb: ClassVar = "publish"
    answers: ClassVar = "True, False, or a dict or list to publish instead"

    data: bytes
    key: str | None
    op: str

    @property
    def name(self) -> str:
        return f"publish function of channel {self.rule.pattern!r}"

    def call(self) -> object:
        assert callable(self.rule.publish)
        try:
            data = None if self.op == "delete" else loads(self.data)
        except ValueError as error:
            raise ClientError("bad_message", f"this is not JSON that the server reads: {error}") from None
        published = {"data": data, "key": self.key, "op": self.op}
        seen = {name: published[name] for name in self.rule.publish_sees}
        return self.rule.publish(self.slot.client, **self.named(), **seen)

    def done(self, value: object) -> None:
        if self.op == "delete" and isinstance(value, dict | list):
            raise TypeError(f"the {self.name} must return True or False when a key is deleted")
        if self.op == "patch" and isinstance(value, list):
            raise TypeError(f"the {self.name} must return True, False, or a dict instead of a patch")
        if isinstance(value, dict | list):
            self.slot.slots.core.allow(self.slot.number, self.question, encode(value))
        else:
            SubscribeJob.done(self, value)


def decision(name: str, answers: str, value: object) -> bool:
    """Return the decision of a function. It must be clear: a coroutine that was not awaited is true, but no
    yes.

    Raises:
        TypeError: if the value is neither ``True`` nor ``False``.
    """
    if value is True or value is False:
        return value
    if iscoroutine(value):
        value.close()  # otherwise Python warns that it was never awaited
        said = f"the coroutine {value.__qualname__}; await it first"
    else:
        said = type(value).__name__ if value is not None else "None"
    raise TypeError(f"the {name} must return {answers}; it returned {said}")

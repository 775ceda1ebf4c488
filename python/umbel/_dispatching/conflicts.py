"""Questions of the core for the functions that resolve conflicts about entries of states."""

from dataclasses import dataclass
from typing import Any, ClassVar

from umbel._clients.proposal import Current, Wanted, differences, proposal
from umbel._clients.removed import REMOVED
from umbel._json import encode

from .channels import SubscribeJob


@dataclass(slots=True, eq=False)
class ResolveJob(SubscribeJob):
    """The question what becomes of a change that met another one, for the function of the channel's rule."""

    verb: ClassVar = "change"

    key: str
    current: Current
    wanted: Wanted

    @property
    def name(self) -> str:
        return f"resolve function of channel {self.rule.pattern!r}"

    def call(self) -> object:
        assert self.rule.resolve is not None
        client = self.slot.client
        return self.rule.resolve(proposal(client, self.channel, self.key, self.current, self.wanted))

    def done(self, value: object) -> None:
        it = proposal(self.slot.client, self.channel, self.key, self.current, self.wanted)
        members = differences(it)
        told: dict[str, Any] = {"resolution": self.rule.resolution, "conflictedChanges": members}
        data = None if value is REMOVED else encode(value)
        version: Any = self.current[0]
        self.slot.slots.core.allow(self.slot.number, self.question, data, version, encode(told).decode())

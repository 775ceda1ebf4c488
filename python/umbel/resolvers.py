"""Ready functions for `Umbel.resolve`: each says what becomes of a change that met another one."""

from typing import Any

from umbel._clients.proposal import Proposal, differs


def last_writer(it: Proposal) -> Any:
    """Take what is proposed: who comes last has it. It is the order of arrival that counts, no clock."""
    return it.proposed


def first_writer(it: Proposal) -> Any:
    """Leave what is there. Readers are told what was proposed."""
    return it.current


def merge(it: Proposal) -> Any:
    """Put two objects together, member by member, also in objects within: what the client has changed is as
    it proposes, the rest as it is there. Values that are no objects, and removals, are those of the last
    writer.

    If the value that the client has changed is not known any more, all that it proposes counts as changed.
    """
    return merged(it.base, it.current, it.proposed)


def merged(base: Any, current: Any, proposed: Any) -> Any:
    """Return what two who have changed the same value have made of it together."""
    if not isinstance(current, dict) or not isinstance(proposed, dict):
        return proposed
    base = base if isinstance(base, dict) else {}
    gone = {name for name in base if name not in proposed and not differs(name, base, current)}
    changed = {
        name: merged(base.get(name), current.get(name), value)
        for name, value in proposed.items()
        if differs(name, base, proposed)
    }
    return {name: value for name, value in current.items() if name not in gone} | changed

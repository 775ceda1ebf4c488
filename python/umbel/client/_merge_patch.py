"""JSON merge patches (RFC 7396), as the server merges them. `clients/vectors/merge_patch.json` tests both."""

from typing import Any


def merge_patch(target: Any, patch: Any) -> Any:
    """The value that a patch makes of another one.

    Neither of the two is changed. What is returned may share parts with them.

    Args:
        target: the value before; one that is no ``dict`` counts as empty.
        patch: what changes: ``None`` removes a member, a ``dict`` is merged, and all else is the new value.
    """
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged

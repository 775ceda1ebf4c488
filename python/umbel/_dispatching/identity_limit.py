"""How many connections each identity has."""

from __future__ import annotations

from typing import final


@final
class Places:
    """Counts connections by the subject of their identity. Without a limit nothing is counted."""

    __slots__ = ("_most", "_subjects", "_taken")

    def __init__(self, most: int) -> None:
        """Begin with nobody.

        Args:
            most: places of one identity; 0 for no limit.
        """
        self._most = most
        self._subjects: dict[int, str] = {}  # by connection: an application may change a client's identity
        self._taken: dict[str, int] = {}

    def take(self, key: int, subject: str) -> bool:
        """Give a connection one of the places of its identity; ``False`` when there is none left.

        What nobody authenticated has no subject and needs no place.
        """
        if not self._most or not subject:
            return True
        taken = self._taken.get(subject, 0)
        if taken >= self._most:
            return False
        self._taken[subject] = taken + 1
        self._subjects[key] = subject
        return True

    def leave(self, key: int) -> None:
        """Give back the place of a connection, if it had one."""
        subject = self._subjects.pop(key, None)
        if subject is None:
            return
        self._taken[subject] -= 1
        if not self._taken[subject]:
            del self._taken[subject]

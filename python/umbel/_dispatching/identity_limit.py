"""How many connections each identity has."""

from typing import final


@final
class IdentityLimit:
    """Counts connections by the subject of their identity. Without a limit nothing is counted."""

    __slots__ = ("_away", "_counts", "_most", "_subjects")

    def __init__(self, most: int) -> None:
        """Begin with no connections.

        Args:
            most: connections of one identity; 0 for no limit.
        """
        self._most = most
        self._subjects: dict[int, str] = {}  # by connection: the application may change the identity
        self._counts: dict[str, int] = {}
        self._away: dict[str, dict[int, None]] = {}  # by subject, the one first that is away for longest

    def take(self, number: int, subject: str) -> bool:
        """Count a connection of an identity; ``False`` when the identity has as many as it may.

        An anonymous client has no subject and is not counted.
        """
        if not self._most or not subject:
            return True
        count = self._counts.get(subject, 0)
        if count >= self._most:
            return False
        self._counts[subject] = count + 1
        self._subjects[number] = subject
        return True

    def away(self, number: int) -> None:
        """A client that is counted has lost its connection."""
        if subject := self._subjects.get(number):
            self._away.setdefault(subject, {})[number] = None

    def back(self, number: int) -> None:
        """It has come back, is gone, or is asked to give way."""
        subject = self._subjects.get(number)
        if subject is not None and (away := self._away.get(subject)):
            away.pop(number, None)
            if not away:
                del self._away[subject]

    def longest_away(self, subject: str) -> int | None:
        """Return the client of an identity that is away for longest."""
        return next(iter(self._away.get(subject, ())), None)

    def leave(self, number: int) -> None:
        """Count a connection no longer, if it was counted."""
        self.back(number)
        subject = self._subjects.pop(number, None)
        if subject is None:
            return
        self._counts[subject] -= 1
        if not self._counts[subject]:
            del self._counts[subject]

"""What a client allows itself, and the server."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds, sizes in bytes unless another unit is named. The defaults suit a service.

    Attributes:
        window: the first retry comes at a random moment within this time, until a server has told its own.
        base: later retries come at a random moment within ``base * factor ** n`` after the nth failure.
        factor: see ``base``.
        cap: the longest of these times.
        useful: a connection that has lasted so long makes the next retry a first one.
        failing: so many failures in a row are reported: ``state.failing``, and one warning in the log.
        attempts: at most so many attempts in any ``attempts_in``, whatever a server does.
        attempts_in: see ``attempts``.
        attempt_timeout: for an attempt, from asking for the token until the server has let the client in.
        answer_timeout: a server that was silent for its ``heartbeat`` has so long to answer.
        probe_timeout: the same after the machine has slept.
        queue: requests that wait to be sent.
        queue_size: characters of them together.
        queue_age: how long a request may wait.
        buffer: what the reader of one subscription may leave unread. Then the subscription is given up until
            the reader has read all of it, and goes on from there.
    """

    window: float = 1.0
    base: float = 1.0
    factor: float = 2.0
    cap: float = 30.0
    useful: float = 10.0
    failing: int = 5
    attempts: int = 5
    attempts_in: float = 10.0
    attempt_timeout: float = 10.0
    answer_timeout: float = 10.0
    probe_timeout: float = 5.0
    queue: int = 1000
    queue_size: int = 1 << 20
    queue_age: float = 60.0
    buffer: int = 4 << 20

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: if one is negative, or ``attempts`` is 0.
        """
        for name, value in asdict(self).items():
            if not value >= 0:
                raise ValueError(f"{name} can't be {value!r}")
        if self.attempts < 1:
            raise ValueError("attempts is at least 1")

    def options(self) -> dict[str, Any]:
        """The options of the machine, whose times are milliseconds."""
        counts = ("factor", "failing", "attempts", "queue", "queue_size")
        options = {name: value if name in counts else value * 1000 for name, value in asdict(self).items()}
        del options["buffer"]
        return options

"""Errors that functions of the application raise."""

import logging
import secrets
from collections.abc import Callable

logger = logging.getLogger("umbel")


class Failures:
    """Logs the failures of one server's functions."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        """Prepare.

        Args:
            interrupt: called when a function raised KeyboardInterrupt; it stops the server.
        """
        self._interrupt = interrupt

    def log(self, error: BaseException, text: str, *values: object) -> str:
        """Log an error. Returns a new incident: an id that is in the log and in what the client is told."""
        incident = secrets.token_hex(6)
        logger.error(f"{text} (incident %s)", *values, incident, exc_info=error)
        return incident

    def stop_for(self, error: BaseException) -> None:
        """Stop the server after a KeyboardInterrupt. Call this when the client was told of the error."""
        if isinstance(error, KeyboardInterrupt):
            self._interrupt()

"""Text of a peer, made fit for a line of the log."""

from typing import Final


def printable(text: str) -> str:
    """Return a text as one line without control characters, cut when it is long."""
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[:MOST])
    return line if len(text) <= MOST and len(line) <= MOST else line[: MOST - 3] + "..."


MOST: Final = 200
"""Characters: at most 800 bytes. With the text around it, a line has less than a KiB."""

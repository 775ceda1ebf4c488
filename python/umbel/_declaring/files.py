"""Files as pages."""

import mimetypes
from pathlib import Path
from typing import Final


def is_file_name(text: str) -> bool:
    """Whether a text is the name of a file that is here."""
    try:
        return "\n" not in text and Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return False


def file_type(name: str) -> str:
    """Guess the content type of a file by its name. A packed file is not what is in it.

    It gets no ``Content-Encoding``, as nginx gives none: with that a browser would unpack it, and a download
    of ``report.csv.gz`` would no longer be the file of this name.
    """
    kind, packing = mimetypes.guess_type(name)
    if packing is not None:
        return PACKED.get(packing, "application/octet-stream")
    if kind is None:
        return "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


PACKED: Final = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
"""Content types of packed files, by what `mimetypes` calls the packing."""

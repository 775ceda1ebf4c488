"""What a server answers to ``GET``: the pages of its application, and the client for web pages."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

Page = tuple[list[tuple[str, str]], bytes, bytes | None]
"""Headers, body, and the body for clients that accept gzip."""


@dataclass(frozen=True, slots=True)
class Script:
    """A file of JavaScript."""

    tag: str
    body: bytes
    packed: bytes

    @classmethod
    def read(cls, file: Path) -> Script:
        """Read and pack a file.

        Raises:
            OSError: if it can't be read.
        """
        body = file.read_bytes()
        tag = hashlib.sha256(body).hexdigest()[:12]
        return cls(tag, body, gzip.compress(body, mtime=0))

    @property
    def path(self) -> str:
        """The path that changes with the file."""
        return f"/umbel/client-{self.tag}.js"

    def page(self, cache_control: str = "no-cache") -> Page:
        """Return it as it is answered."""
        headers = [
            ("Content-Type", "text/javascript; charset=utf-8"),
            ("Cache-Control", cache_control),
            ("ETag", f'"{self.tag}"'),
            # For pages of other origins, also those that are isolated (COEP). It has nothing that is secret.
            ("Access-Control-Allow-Origin", "*"),
            ("Cross-Origin-Resource-Policy", "cross-origin"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        return headers, self.body, self.packed


@cache
def client_script() -> Script:
    """Return the client for web pages, as it was when it was read first."""
    return Script.read(Path(__file__).with_name("umbel.js"))


def client_pages() -> dict[str, Page]:
    """Return the client twice: at its own path it never changes. What it may load later is beside both."""
    client = client_script()
    pages = {client.path: client.page(FOR_EVER), "/umbel/client.js": client.page()}
    for name in LOADED:
        pages[f"/umbel/{name}"] = Script.read(Path(__file__).with_name(name)).page()
    return pages


def all_pages(declared: Mapping[str, tuple[str, bytes]], *, with_client: bool) -> dict[str, Page]:
    """Return the pages of an application and of its server."""
    # The application's pages can change with the next start, so browsers ask again each time.
    pages: dict[str, Page] = {
        path: ([("Content-Type", kind), ("Cache-Control", "no-cache")], body, None)
        for path, (kind, body) in declared.items()
    }
    return pages | client_pages() if with_client else pages


def dashboard_pages() -> dict[str, Page]:
    """Return the dashboard, for the listener for operators: its paths begin as that expects it."""
    folder = Path(__file__).with_name("dashboard")
    pages: dict[str, Page] = {}
    for file in folder.rglob("*"):
        if kind := KINDS.get(file.suffix):
            path = "/dashboard/" + file.relative_to(folder).as_posix()
            headers = [("Content-Type", f"{kind}; charset=utf-8")]
            pages["operators:" + path.removesuffix("/index.html")] = headers, file.read_bytes(), None
    return pages


KINDS: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
"""Files of the dashboard that are served. Licences beside them are not."""

FOR_EVER: Final = "public, max-age=31536000, immutable"
"""Seconds: a year. With another client the path is another one."""

LOADED: Final = ("stream.js", "state.js", "presence.js")
"""Files that the client loads when it needs them."""

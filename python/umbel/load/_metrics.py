"""What a server counts itself, read from its page of metrics."""

import re
import ssl
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError


def read(url: str, token: str | None, ca: str | None) -> dict[str, float]:
    """The counters of a page for Prometheus, without their labels. Blocks.

    Raises:
        OSError: if there is no such page.
    """
    request = urllib.request.Request(url)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    context = ssl.create_default_context(cafile=ca) if url.startswith("https:") else None
    opener = urllib.request.build_opener(
        Nowhere, urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(request, timeout=PATIENCE) as page:
            text = page.read().decode()
    except (OSError, HTTPException, UnicodeDecodeError) as error:
        reason = getattr(error, "reason", error)  # of an URLError; an HTTPError has its own words
        if isinstance(error, HTTPError):
            error.close()
            reason = f"{error.code} {reason}" + (TOKEN if error.code == UNAUTHORIZED else "")
        msg = f"the metrics at {url} can't be read: {getattr(reason, 'strerror', None) or reason}"
        raise OSError(msg) from error
    found: dict[str, float] = {}
    for name, value in COUNTER.findall(text):
        found[name] = found.get(name, 0.0) + float(value)
    if not found:
        msg = f"there are no counters at {url}"
        raise OSError(msg)
    return found


def since(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What was counted between two moments."""
    return {name: round(value - before.get(name, 0.0), 6) for name, value in after.items()}


class Nowhere(urllib.request.HTTPRedirectHandler):
    """Follows nobody: a token is for one server."""

    def redirect_request(self, *_: Any) -> None:
        """Say that there is nothing to follow."""
        return


COUNTER: Final = re.compile(r"^(\w+_total)(?:\{.*\})? (\S+)", re.MULTILINE)

UNAUTHORIZED: Final = 401
TOKEN: Final = "; a file with their token is named by --metrics-token, a token by metrics_token="

PATIENCE: Final = 10.0
"""Seconds."""

"""Keys of tokens that are had by URL. A thread fetches them from time to time, and when a token needs one."""

import logging
import time
from collections.abc import Callable
from http.client import HTTPException
from ipaddress import ip_address
from threading import Event, Lock, Thread
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from umbel._core import Verifier
from umbel._printable import printable

logger = logging.getLogger("umbel")

Settled = Callable[[], None]


class KeysByUrl:
    """The keys of one `umbel.JWT` with ``jwks_url``.

    A thread of its own fetches them, so that a function of the application that blocks the event loop does
    not keep new keys out.
    """

    def __init__(self, url: str, verifier: Verifier) -> None:
        self._url: Final = url
        self._place: Final = printable(url.partition("?")[0])  # a query may have what is not for the log
        self._verifier: Final = verifier
        self._lock = Lock()  # held to begin and to end, and for one fetch that nobody else has begun
        self._servers: list[Settled] = []
        self._over: Event | None = None  # of the thread, while there is one
        self._fetched = -REST  # when it was tried last
        self._complained: tuple[str, float] = ("", 0.0)

    def begin(self, settled: Settled) -> None:
        """Fetch keys for a server, and call this whenever they have come, or have not."""
        with self._lock:
            self._servers.append(settled)
            if self._over is None:
                self._over = Event()
                Thread(target=self._run, args=(self._over,), name="umbel-jwks", daemon=True).start()

    def end(self, settled: Settled) -> None:
        """Fetch keys no longer for a server. Does nothing when it was not begun."""
        with self._lock:
            if settled in self._servers:
                self._servers.remove(settled)
            if self._over is not None and not self._servers:
                self._over.set()
                self._over = None
                self._verifier.keys_come()  # ends the wait of the thread

    def bring(self) -> None:
        """Fetch keys now, unless a thread does that, or it was tried within the last `REST` seconds."""
        with self._lock:
            if self._over is None and time.monotonic() - self._fetched >= REST:
                self._fetch()

    def _run(self, over: Event) -> None:
        failures = 0
        while not over.is_set():
            self._verifier.keys_come()
            came = self._fetch(over)
            failures = 0 if came else failures + 1
            self._verifier.keys_settled()
            for settled in list(self._servers):
                settled()
            # Tokens can't shorten this. A server that has no keys yet looks sooner.
            rest = REST if self._verifier.has_keys(time.time()) else min(REST, 2.0 ** (failures - 1))
            if not over.wait(rest):
                self._verifier.wait_wanted(PERIOD - rest if came else 0.0)

    def _fetch(self, over: Event | None = None) -> bool:
        """Fetch once. Returns whether there was a good answer."""
        self._fetched = time.monotonic()
        try:
            self._verifier.replace_keys(fetch(self._url), time.time())
        except Exception as error:  # whatever it is, the server goes on
            if over is None or not over.is_set():
                self._complain(explained(error))
            return False
        if self._complained[0]:
            self._complained = ("", 0.0)
            logger.info("the keys of %s can be had again", self._place)
        return True

    def _complain(self, why: str) -> None:
        has_keys = self._verifier.has_keys(time.time())
        what = (
            "those from before count for a day from the last good answer"
            if has_keys
            else "clients with tokens are refused until they come"
        )
        last, at = self._complained
        if (why + what) == last and time.monotonic() - at < COMPLAIN_AGAIN:
            return
        self._complained = (why + what, time.monotonic())
        level = logging.WARNING if has_keys else logging.ERROR
        logger.log(level, "the keys of %s can't be had: %s; %s", self._place, why, what)


def checked_url(url: str) -> str:
    """Return a URL from which keys may be had.

    Raises:
        ValueError: if everybody on the way could give other keys, or it is none. The message says what to do.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.username is not None or parts.password is not None:
        raise ValueError("jwks_url has a user or a password: sets of keys are public, so leave them out")
    if not host or parts.scheme not in ("https", "http"):
        raise ValueError(f"jwks_url must be a URL that begins with https://, not {printable(url)!r}")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(
            "jwks_url must begin with https://: everybody on the way could give other keys. Only on this "
            "machine (localhost) http:// will do"
        )
    return url


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, without asking anybody."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class NoRedirects(HTTPRedirectHandler):
    """Leaves a redirect as it is: who may give keys is said by the configuration."""

    def redirect_request(self, *_: object) -> None:
        return None


def fetch(url: str) -> bytes:
    """Return what a URL has.

    Raises:
        OSError: if it can't be had, or not in time.
        ValueError: if the answer is none.
        HTTPException: if it is no HTTP.
    """
    end = time.monotonic() + PATIENCE
    handlers = [NoRedirects(), *([ProxyHandler({})] if is_loopback(urlsplit(url).hostname or "") else [])]
    request = Request(url, headers={"Accept": "application/json", "User-Agent": "umbel"})
    body = bytearray()
    with build_opener(*handlers).open(request, timeout=PATIENCE) as response:
        if response.status != 200:
            raise ValueError(f"the answer has status {response.status}")
        while part := response.read1(1 << 16):
            body += part
            if len(body) > MOST_BYTES:
                raise ValueError(f"the answer has more than {MOST_BYTES >> 10} KiB")
            if time.monotonic() > end:
                raise TimeoutError("timed out")
    return bytes(body)


def explained(error: Exception) -> str:
    """Return what went wrong, for one line of the log."""
    if isinstance(error, HTTPError):
        error.close()
        also = ", and redirects are not followed" if 300 <= error.code < 400 else ""
        return f"the answer has status {error.code}{also}"
    if isinstance(error, URLError):
        error = error.reason if isinstance(error.reason, Exception) else error
    if isinstance(error, TimeoutError):
        return f"there was no whole answer within {PATIENCE:.0f} s"
    kind = f"{type(error).__name__}: " if isinstance(error, HTTPException) else ""
    return printable(f"{kind}{error}")


PATIENCE: Final = 3.0
"""Seconds for the whole answer."""

REST: Final = 30.0
"""Seconds between two fetches, whatever tokens ask for."""

PERIOD: Final = 300.0
"""Seconds after which keys are fetched again. A key that is withdrawn counts no longer than that."""

MOST_BYTES: Final = 256 << 10
"""Bytes of a set of keys."""

COMPLAIN_AGAIN: Final = 3600.0
"""Seconds between two lines of the log about the same."""

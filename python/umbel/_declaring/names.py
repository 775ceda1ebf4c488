"""Names that browsers send: can one that a setting has ever match?"""

from __future__ import annotations

import ipaddress
import re
from typing import Final


def origin_problem(origin: str) -> str | None:
    """Say why no browser sends an origin (RFC 6454 §6.1); ``None`` if one may."""
    if origin == "null":
        return None
    if not (found := ORIGIN.fullmatch(origin)):
        return (
            "browsers send a scheme, a host, and a port unless it is the default, as in "
            "'https://example.org' or 'http://localhost:3000'"
        )
    if "*" in origin:
        return "name each origin in full, or allow all with origins='*'"
    scheme, port = found["scheme"].lower(), found["port"]
    if scheme in ("ws", "wss"):
        return f"it is the origin of the page, so its scheme is {scheme.replace('ws', 'http')!r}"
    if port is not None and port == DEFAULT_PORTS.get(scheme):
        return f"browsers leave the default port out; write {origin.removesuffix(':' + port)!r}"
    if port is not None and not (port.isdecimal() and port == str(int(port)) and int(port) < 65_536):
        return "a port is a number up to 65535, without zeros before it"
    return None


def host_problem(host: str) -> str | None:
    """Say why no browser sends a host, its port aside (RFC 9110 §7.2); ``None`` if one may."""
    if is_address(host):
        return None
    if "://" in host:
        bare = host.partition("://")[2].partition("/")[0]
        return f"it is a host without a scheme; write {without_port(bare)!r}"
    if without_port(host) != host:
        return f"the port does not matter; write {without_port(host)!r}"
    if not host.isascii():
        return f"browsers send such a name as {encoded(host)!r}" if encoded(host) else NO_HOST
    if host == "*":
        return "name each host, as in 'example.org', or all below one, as in '*.example.org'"
    return None if HOST.fullmatch(host) else NO_HOST


def is_address(host: str) -> bool:
    """Whether a host is an IP address, in brackets or not."""
    try:
        ipaddress.ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    except ValueError:
        return False
    return "%" not in host  # zones are not sent


def without_port(host: str) -> str:
    """Return a host without its port."""
    return re.sub(r":\d*$", "", host)


def encoded(host: str) -> str | None:
    """Return a name as the DNS has it, or ``None``."""
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return None


ORIGIN: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:\[[0-9a-f:.]+\]|[!-.0-9;<>A-Z\\^-~]+)(?::(?P<port>[0-9]+))?",
    re.IGNORECASE,
)
"""ASCII without a path or a query. Sandboxed pages send ``null``."""

DEFAULT_PORTS: Final = {"http": "80", "https": "443"}

HOST: Final = re.compile(r"(\*\.)?[a-z0-9_~-]+(\.[a-z0-9_~-]+)*\.?", re.IGNORECASE)
"""Labels with dots between them. The server reads no others in a ``Host`` header."""

NO_HOST: Final = "a host is a name or an IP address, as in 'example.org', '*.example.org' or '203.0.113.5'"

PATH: Final = re.compile(r"(?!.*/\.\.?(/|$))/[A-Za-z0-9._~!$&'()*+,;=:@/-]*")
"""What browsers send as it is written (RFC 3986 §3.3), without segments that they take out."""

OWN_PATHS: Final = (
    "websocket_path",
    "stream_path",
    "session_path",
    "publish_path",
    "history_path",
    "ticket_path",
)
"""The settings that say where the server itself answers."""

"""The server that a load goes to, and whether it may."""

import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Self
from urllib.parse import urlsplit

HOSTILE: Final = ("storm", "chaos", "slow-readers")
"""Scenarios that a server may take for an attack."""


SECURE: Final = ("wss", "https")


@dataclass(frozen=True)
class Target:
    """A server, found once."""

    name: str
    """The host of the URL."""
    host: str
    """What the header ``Host`` says."""
    path: str
    address: str
    """IP address and port."""
    is_own: bool
    """It is this machine."""
    is_secure: bool
    """It speaks TLS."""

    @classmethod
    def of(cls, url: str) -> Self:
        """Look a target up.

        Raises:
            ValueError: if it is no URL of a server, or its name is unknown.
        """
        parts = urlsplit(url)
        try:
            port = parts.port or (443 if parts.scheme in SECURE else 80)
        except ValueError as error:
            msg = f"{url!r} is no address of a server: {error}"
            raise ValueError(msg) from None
        if parts.scheme not in {"ws", "http", *SECURE} or not parts.hostname:
            msg = f"a target is ws://host:port/path or wss://…, as in ws://127.0.0.1:8000/ws; not {url!r}"
            raise ValueError(msg)
        try:
            found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        except OSError as error:
            msg = f"the host {parts.hostname!r} can't be found: {error}"
            raise ValueError(msg) from None
        addresses = [str(entry[4][0]) for entry in found]
        # A server that listens on 127.0.0.1 alone is there, too, for who says localhost.
        if all(ip_address(each.partition("%")[0]).is_loopback for each in addresses):
            addresses.sort(key=lambda each: ":" in each)
        first = addresses[0]
        path = (parts.path or "/ws") + (f"?{parts.query}" if parts.query else "")
        shown = f"[{first}]:{port}" if ":" in first else f"{first}:{port}"
        own = all(is_own(address) for address in addresses)
        host = parts.netloc.rpartition("@")[2]
        return cls(parts.hostname, host, path, shown, own, parts.scheme in SECURE)

    def check_allowed(self, remote: str | None, *, hostile: bool, scenario: str) -> None:
        """Refuse what may be a slip of the keyboard.

        Raises:
            ValueError: if the target is another machine, and that was not said.
        """
        if self.is_own:
            return
        if remote != self.name:
            msg = (
                f"{self.name} ({self.address}) is not this machine. A load can take a server down: send "
                "it only to your own. If it is yours, name it again: "
                f"--remote {self.name}, or remote={self.name!r}"
            )
            raise ValueError(msg)
        if scenario in HOSTILE and not hostile:
            msg = (
                f"{scenario} looks like an attack to {self.name}. If it is yours, and nobody else's: "
                "--hostile, or hostile=True"
            )
            raise ValueError(msg)


def is_own(address: str) -> bool:
    """Whether an IP address is loopback, or one of this machine's: a socket can be bound to those only."""
    found = ip_address(address.partition("%")[0])
    if found.is_loopback:
        return True
    family = socket.AF_INET6 if found.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(found), 0))
        except OSError:
            return False
    return True

"""The HTTP request that opened a connection."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import final
from urllib.parse import parse_qsl

from umbel._core import Handshake
from umbel._printable import printable


@final
class Fields(Mapping[str, str]):
    """Header fields or query parameters: a mapping that keeps all values of a name.

    Used as a mapping, it has one value for each name. Header fields with the same name are joined with ``",
    "`` (RFC 9110 §5.3). Of query parameters with the same name, the first counts. The case of the name of a
    header field does not matter.

    Example:
        >>> Fields([("tag", "a"), ("tag", "b")]).all("tag")
        ('a', 'b')
    """

    __slots__ = ("_joined", "_values")

    def __init__(self, pairs: list[tuple[str, str]], *, headers: bool = False) -> None:
        self._joined = headers
        values: dict[str, list[str]] = {}
        for name, value in pairs:
            values.setdefault(name.lower() if headers else name, []).append(value)
        self._values = {name: tuple(found) for name, found in values.items()}

    def all(self, name: str) -> tuple[str, ...]:
        """Return all values of a name, in the order in which they came."""
        return self._values.get(name.lower() if self._joined else name, ())

    def __getitem__(self, name: str) -> str:
        values = self.all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values) if self._joined else values[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        # Not the values: logs show this, and tokens and cookies are among them.
        return f"<Fields {printable(', '.join(self))}>"


@final
class Request:
    """The HTTP request that opened a connection. Each part is decoded when it is first used.

    Attributes:
        headers: header fields. The case of names does not matter; values are decoded as Latin-1.
        query: parameters of the query string, percent-decoded.
        cookies: cookies by name, with values as the client sent them.
    """

    def __init__(self, handshake: Handshake) -> None:
        self._handshake = handshake

    @property
    def path(self) -> str:
        """The path, percent-decoded, without the query. A ``%2F`` has become a slash like others."""
        return self._handshake.path

    @property
    def peer(self) -> str:
        """Where the client is, as ``"127.0.0.1:51234"``, or ``"unix"``.

        It may be a proxy, unless that is one of ``trusted_proxies``: then it is what the proxy says, an
        address without a port.
        """
        return self._handshake.peer

    @property
    def secure(self) -> bool:
        """Whether the connection to this server uses TLS."""
        return self._handshake.secure

    @cached_property
    def headers(self) -> Fields:
        return Fields(self._handshake.headers, headers=True)

    @cached_property
    def query(self) -> Fields:
        return Fields(parse_qsl(self._handshake.query, keep_blank_values=True))

    @cached_property
    def cookies(self) -> Mapping[str, str]:
        pairs = [
            part.split("=", 1)
            for line in self.headers.all("cookie")
            for part in line.split(";")
            if "=" in part
        ]
        return {
            name.strip(): value.strip().removeprefix('"').removesuffix('"') for name, value in reversed(pairs)
        }

    @property
    def token(self) -> str | None:
        """The ``token`` of the client's first message, if it names one there. Otherwise the bearer token of
        the ``Authorization`` header field (RFC 6750 §2.1); ``None`` without one.
        """
        if self._handshake.token is not None:
            return self._handshake.token
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None

    def __repr__(self) -> str:
        return f"<Request {printable(self.path)} from {self.peer}>"

"""Who a client is: the request that opened its connection, and the identity made from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn, final
from urllib.parse import parse_qsl

from umbel._core import Handshake
from umbel._printable import printable


@final
class Claims(dict[str, Any]):
    """What is known of a client: a dictionary that can't be changed. It is JSON serialisable."""

    __slots__ = ()

    def _immutable(self, *arguments: Any, **keywords: Any) -> NoReturn:
        raise TypeError("claims can't be changed; make a copy with dict(claims)")

    __setitem__ = __delitem__ = __ior__ = _immutable
    clear = pop = popitem = setdefault = update = _immutable

    def __reduce__(self) -> tuple[Any, ...]:
        return Claims, (dict(self),)


@final
@dataclass(frozen=True, slots=True)
class Identity:
    """What authentication said about a client. Immutable.

    Attributes:
        subject: who it is, for example a user's id; empty for a client that nobody authenticated.
        claims: everything else that is known, for example the claims of a token; a copy of what was given.

    Raises:
        TypeError: if the subject is not a str.

    Example:
        >>> Identity("alice", {"admin": True}).claims["admin"]
        True
    """

    subject: str
    claims: Mapping[str, Any] = field(default_factory=lambda: EMPTY, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.subject, str):
            raise TypeError(
                f"the subject of an Identity is a str, not {type(self.subject).__name__}: use str(…)"
            )
        if not isinstance(self.claims, Claims):
            object.__setattr__(self, "claims", Claims(self.claims))

    @property
    def anonymous(self) -> bool:
        """Whether nobody authenticated this client."""
        return not self.subject

    @classmethod
    def of(cls, answer: Identity | str | Mapping[str, Any]) -> Identity:
        """Make an identity from what an ``authenticate`` function returned.

        Raises:
            TypeError: if it is none of the three.
            ValueError: if there is no subject in it (``sub`` in a mapping).
        """
        if isinstance(answer, Identity):
            identity = answer
        elif isinstance(answer, str):
            identity = cls(answer)
        elif isinstance(answer, Mapping):
            identity = cls(str(answer.get("sub") or ""), answer)
        else:
            raise TypeError(
                f"authenticate returned {type(answer).__name__}; return an Identity, str, mapping or None"
            )
        if not identity.subject:
            raise ValueError(
                "authenticate returned an identity without a subject; a mapping needs the key 'sub'"
            )
        return identity


@final
class Fields(Mapping[str, str]):
    """Header fields or query parameters: a mapping that keeps all values of a name.

    As a mapping it gives one value per name: header fields that came twice are joined with ``", "`` (RFC
    9110 §5.3), of query parameters the first counts. Names of header fields are compared without regard to
    case.

    Example:
        >>> Fields([("tag", "a"), ("tag", "b")]).all("tag")
        ('a', 'b')
    """

    __slots__ = ("_joined", "_values")

    def __init__(self, pairs: list[tuple[str, str]], *, headers: bool = False) -> None:
        self._joined = headers
        self._values: dict[str, tuple[str, ...]] = {}
        for name, value in pairs:
            name = name.lower() if headers else name
            self._values[name] = (*self._values.get(name, ()), value)

    def all(self, name: str) -> tuple[str, ...]:
        """Return all values of a name in the order they came; empty when there is none."""
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
    """The HTTP request that opened a connection. Its parts are decoded when they are first asked for.

    Attributes:
        headers: header fields; names without regard to case, values decoded as Latin-1.
        query: parameters of the query string, percent-decoded.
        cookies: cookies by name, as sent.
    """

    def __init__(self, handshake: Handshake) -> None:
        self._handshake = handshake

    @property
    def path(self) -> str:
        """Percent-decoded path, without the query."""
        return self._handshake.path

    @property
    def peer(self) -> str:
        """Address of the other end, ``"127.0.0.1:51234"`` or ``"unix"``."""
        return self._handshake.peer

    @property
    def secure(self) -> bool:
        """Whether the connection is TLS."""
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
        """The bearer token of the ``Authorization`` field (RFC 6750 §2.1); ``None`` without one."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None

    def __repr__(self) -> str:
        return f"<Request {printable(self.path)} from {self.peer}>"


EMPTY: Mapping[str, Any] = Claims()
ANONYMOUS = Identity("")

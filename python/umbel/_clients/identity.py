"""Who a client is, as authentication says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, final


@final
class Claims(dict[str, Any]):
    """A dictionary that can't be changed. It can be encoded as JSON."""

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
    """Who a client is, as ``authenticate`` or its token said. Immutable.

    Attributes:
        subject: who it is, for example the id of a user. Empty for an anonymous client.
        claims: what else is known, for example the claims of a token. A copy of what was given.
        expires: until when the credentials are good, in seconds of Unix time, as in the claim ``exp`` of a
            JWT; ``None`` for ever. Then the connection is closed with 4401; the client is told 30 seconds
            before. One that comes back to its session is asked for new ones: ``authenticate`` is called, or
            the new token is verified.

    Raises:
        TypeError: if the subject is not a str, or ``expires`` is not a number.
        ValueError: if the subject can't be encoded as UTF-8, or ``expires`` is not a time in seconds.

    Example:
        >>> Identity("alice", {"admin": True}).claims["admin"]
        True
    """

    subject: str
    claims: Mapping[str, Any] = field(default_factory=lambda: EMPTY, hash=False)
    expires: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.subject, str):
            raise TypeError(
                f"the subject of an Identity must be a str, not {type(self.subject).__name__}: use str(…)"
            )
        try:
            self.subject.encode()
        except UnicodeEncodeError:
            raise ValueError(
                "the subject of an Identity has half of a surrogate pair: that is no text"
            ) from None
        if self.expires is not None:
            if type(self.expires) not in (int, float):
                kind = type(self.expires).__name__
                raise TypeError(f"expires must be a number of seconds or None, not {kind}: use .timestamp()")
            if not 0 <= self.expires < LATEST:
                raise ValueError(f"expires must be seconds of Unix time, not {self.expires}")
        if not isinstance(self.claims, Claims):
            object.__setattr__(self, "claims", Claims(self.claims))

    @property
    def anonymous(self) -> bool:
        """Whether the client is not authenticated."""
        return not self.subject

    @classmethod
    def of(cls, result: "Identity | str | Mapping[str, Any]") -> "Identity":
        """Make an identity from what an ``authenticate`` function returned.

        A mapping has the claims of a JWT: ``sub`` is the subject, and ``exp``, if there is one, the end.

        Raises:
            TypeError: if it is none of the three types, or ``exp`` is not a number.
            ValueError: if it has no subject, or ``exp`` is not a time in seconds.
        """
        if isinstance(result, Identity):
            identity = result
        elif isinstance(result, str):
            identity = cls(result)
        elif isinstance(result, Mapping):
            identity = cls(str(result.get("sub") or ""), result, result.get("exp"))
        else:
            raise TypeError(
                f"authenticate returned {type(result).__name__}; return an Identity, str, mapping or None"
            )
        if not identity.subject and identity is not ANONYMOUS:
            raise ValueError(
                "authenticate returned an identity without a subject. A mapping needs the key 'sub'"
            )
        return identity


EMPTY: Mapping[str, Any] = Claims()
ANONYMOUS = Identity("")
LATEST = 100_000_000_000  # the year 5138; milliseconds of today are more

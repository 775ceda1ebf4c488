"""Who clients are by their tokens: the keys and rules of JSON Web Tokens, which the core verifies."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, final

import orjson

from umbel._clients.identity import Identity
from umbel._core import Verifier

from .jwks import KeysByUrl, checked_url


@final
class JWT:
    """Let clients in by their JSON Web Tokens: ``Umbel(auth=JWT(…))``.

    A token is verified by the threads that serve connections, before Python hears of the client. So clients
    come and come back while Python is busy. The client is the claim ``sub``, and it is let in until ``exp``;
    both are required.

    A client shows its token as ``Authorization: Bearer …``, as ``token`` of its first message (as
    `umbel.client` and the JavaScript client do), or in a cookie. A client that shows two, in the header and
    in the message, is refused. A token in the URL does not count, because logs have URLs.

    Give one of ``key``, ``keys``, ``jwks_url`` and ``jwks_file``. Keys are not in ``repr``, settings or logs.

    Args:
        key: a secret for HS256, HS384 and HS512, or a public key in PEM for the other algorithms. A ``str``
            is encoded as UTF-8.
        keys: several of them by name. A token names its key with ``kid``.
        jwks_url: where your issuer has its JWK Set. It begins with ``https://``; on this machine ``http://``
            will do. A running server fetches it every five minutes, and when a token names a key that it does
            not know, but not more than once in 30 seconds. Without good answers the keys count for a day.
        jwks_file: path of a JWK Set with public keys. It is read once.
        algorithms: those that your tokens have, as in ``["RS256"]``. Each needs a key. There are HS256,
            HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA (Ed25519).
        audience: the ``aud`` of your tokens, or several of which a token must name one. Without it, a token
            that names an audience is refused.
        issuer: the ``iss`` of your tokens, or several. Without it, tokens of all issuers count.
        leeway: seconds by which the clocks of issuer and server may differ, at most 60.
        max_lifetime: seconds from ``iat`` to ``exp`` that a token may have. A token without ``iat`` is
            refused while it has longer to go.
        cookie: name of the cookie that may have the token. Use a cookie with ``Secure``, ``HttpOnly`` and
            ``SameSite``, and leave ``origins`` of the settings at ``None`` or make it a list: with ``"*"``
            the server does not start.

    Raises:
        OSError: if the file can't be read.
        TypeError: if an argument has the wrong type, or there is not exactly one of the four for keys.
        ValueError: if a key is too weak or of another kind than its algorithm, or a value is out of range.
            The message says what to do.

    Example:
        >>> from umbel import JWT, Umbel
        >>> app = Umbel(auth=JWT(key="a secret of 32 bytes or more, please", algorithms=["HS256"]))
        >>> app.auth
        <JWT HS256>
    """

    def __init__(
        self,
        *,
        key: str | bytes | None = None,
        keys: Mapping[str, str | bytes] | None = None,
        jwks_url: str | None = None,
        jwks_file: str | os.PathLike[str] | None = None,
        algorithms: Sequence[str],
        audience: str | Sequence[str] | None = None,
        issuer: str | Sequence[str] | None = None,
        leeway: float = 10.0,
        max_lifetime: float = 86_400.0,
        cookie: str | None = None,
    ) -> None:
        if sum(one is not None for one in (key, keys, jwks_url, jwks_file)) != 1:
            raise TypeError("give exactly one of key=, keys=, jwks_url= and jwks_file=")
        if isinstance(algorithms, str):
            raise TypeError(f"algorithms is a list: write algorithms=[{algorithms!r}]")
        if keys is not None and not isinstance(keys, Mapping):
            raise TypeError("keys has a name for each key: write keys={'2026': …}")
        url = None if jwks_url is None else checked_url(text("jwks_url", jwks_url))
        named: list[tuple[str | None, bytes]] | None = None
        if key is not None:
            named = [(None, encoded("key", key))]
        elif keys is not None:
            named = [
                (text("each name in keys", kid), encoded(f"key {kid!r}", value))
                for kid, value in keys.items()
            ]
        self._verifier: Final = Verifier(
            orjson.dumps(
                {
                    "algorithms": [text("each of algorithms", one) for one in algorithms],
                    "audience": names("audience", audience),
                    "issuer": names("issuer", issuer),
                    "leeway": seconds("leeway", leeway),
                    "max_lifetime": seconds("max_lifetime", max_lifetime),
                    "cookie": None if cookie is None else text("cookie", cookie),
                }
            ),
            named,
            None if jwks_file is None else Path(jwks_file).read_bytes(),
        )
        self._by_url: Final = None if url is None else KeysByUrl(url, self._verifier)
        self._name = ", ".join(algorithms)
        self._cookie: Final = cookie

    def verify(self, token: str) -> Identity:
        """Return whom a token names: for other programs that get the same tokens.

        With ``jwks_url``, and without a running server, it may fetch keys first, which takes up to 3 seconds.

        Raises:
            ValueError: if the token does not count. The message says why, and does not repeat the token.
        """
        if self._by_url is not None and self._verifier.needs_keys(token, time.time()):
            self._by_url.bring()
        return named_identity(self._verifier.verify(token, time.time()))

    def __repr__(self) -> str:
        return f"<JWT {self._name}>"


Named = tuple[str, bytes, float | None]
"""Subject, claims as JSON text, and the end, of a token that the core has verified."""


def named_identity(named: Named) -> Identity:
    """Return the identity of that token."""
    subject, claims, expires = named
    return Identity(subject, orjson.loads(claims), expires)


def encoded(name: str, key: str | bytes) -> bytes:
    """Return the bytes of a key.

    Raises:
        TypeError: if it has none. The message does not repeat it.
    """
    if not isinstance(key, str | bytes):
        raise TypeError(f"{name} must be a str or bytes, not {type(key).__name__}")
    return key.encode() if isinstance(key, str) else key


def names(name: str, value: str | Sequence[str] | None) -> list[str]:
    """Return one or several names as a list, which is empty only without any.

    Raises:
        TypeError: if they are none.
        ValueError: if one is empty, or the list is: what was forgotten would let everybody in, or nobody.
    """
    if value is None:
        return []
    found = [text(name, one) for one in ([value] if isinstance(value, str) else value)]
    if not all(found) or not found:
        raise ValueError(f"{name} is empty: name one, or leave {name}= out")
    return found


def text(name: str, value: object) -> str:
    """Return a text.

    Raises:
        TypeError: if it is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    return value


def seconds(name: str, value: object) -> float:
    """Return a time.

    Raises:
        TypeError: if it is no number.
        ValueError: if it is not finite, or less than none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not 0 <= value < LONGEST:
        raise ValueError(f"{name} must be a number of seconds, not {value}")
    return value


LONGEST: Final = 1e11
"""More than any time from now to a date that counts."""

"""``umbel token``: signs a token for development, with the secret of ``JWT(key=…)``."""

import argparse
import base64
import hmac
import os
import re
import sys
import time
from pathlib import Path
from typing import Final

import orjson

from umbel._declaring.jwt import JWT

from .loading import CommandError


def token(parsed: argparse.Namespace) -> int:
    """Print a token.

    Raises:
        CommandError: if there is no secret, or it is too short; or if no server would take the token.
    """
    for name in (*(parsed.channels or ()), *(parsed.publish or ())):
        if "*" in name[:-1]:
            raise CommandError(f"{name!r} would be refused: only the last character of a name may be a *", 2)
    key = secret(parsed.key_file)
    now = int(time.time())
    claims: dict[str, object] = {"sub": parsed.subject, "iat": now, "exp": now + parsed.expires}
    for name, claim in NAMES.items():
        if (value := getattr(parsed, name)) is not None:
            claims[claim] = value
    text = sign(claims, key, parsed.algorithm)
    try:
        # What the server would say of it.
        auth = JWT(
            key=key,
            algorithms=[parsed.algorithm],
            audience=parsed.audience,
            max_lifetime=parsed.expires,
        )
        auth.verify(text)
    except ValueError as error:
        raise CommandError(f"{error}", 1) from error
    if parsed.expires > DAY:
        warning = (
            f"umbel: only an application with JWT(max_lifetime={parsed.expires}) or more takes this token"
        )
        print(warning, file=sys.stderr)  # noqa: T201 - not a part of the token
    print(text)  # noqa: T201 - it is what the command is for
    return 0


def secret(file: str | None) -> bytes:
    """Return the secret of a file or of the environment.

    Raises:
        CommandError: if there is none.
    """
    if file is not None:
        try:
            return Path(file).read_bytes()
        except OSError as error:
            raise CommandError(f"the key can't be read: {error}", 1) from error
    if not (key := os.environ.get(VARIABLE)):
        raise CommandError(
            f"set {VARIABLE} to the secret of JWT(key=…), or name its file with --key-file: "
            "on the command line everybody would see it",
            2,
        )
    return key.encode()


def sign(claims: dict[str, object], key: bytes, algorithm: str) -> str:
    """Return a token with these claims."""
    parts = (orjson.dumps(part) for part in ({"alg": algorithm, "typ": "JWT"}, claims))
    signed = ".".join(encoded(part) for part in parts)
    return f"{signed}.{encoded(hmac.digest(key, signed.encode(), HASHES[algorithm]))}"


def encoded(part: bytes) -> str:
    """Write bytes as tokens have them (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def duration(text: str) -> int:
    """Read a time: ``90``, ``90s``, ``15m``, ``1h``, ``7d``.

    Raises:
        ValueError: if it is none.
    """
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if found is None or int(found[1]) == 0:
        raise ValueError(text)
    return int(found[1]) * SECONDS[found[2]]


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "token",
        help="sign a token for development",
        description="Print a JSON Web Token for an application with auth=JWT(key=…).\n"
        f"The variable {VARIABLE} has the secret, or --key-file names a file that has it.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--subject", required=True, help="who the client is: the claim sub")
    command.add_argument(
        "--channels", action="append", metavar="NAME", help="what it may read, as in 'task:*'; once for each"
    )
    command.add_argument(
        "--publish", action="append", metavar="NAME", help="what it may publish; once for each"
    )
    command.add_argument(
        "--expires", type=duration, default=3600, metavar="TIME", help="as in 90s, 15m, 1h, 7d (default: 1h)"
    )
    command.add_argument("--audience", help="the claim aud")
    command.add_argument("--issuer", help="the claim iss")
    command.add_argument(
        "--algorithm", choices=tuple(HASHES), default="HS256", help="that of the application (default: HS256)"
    )
    command.add_argument(
        "--key-file", metavar="FILE", help="the file with the secret, all of whose bytes count"
    )


DAY: Final = 86_400
"""The default of ``max_lifetime``."""

VARIABLE: Final = "UMBEL_KEY"

NAMES: Final = {"channels": "channels", "publish": "publish", "audience": "aud", "issuer": "iss"}
"""Options, and their claims."""

HASHES: Final = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}

SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}

"""Signs tokens as an issuer would, with the keys in ``tests/keys``."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import re
import time
from typing import Any, Final

from serving import ROOT

SECRET: Final = "a secret of sixty-four bytes, which is what HS512 wants to have."
RSA: Final = (ROOT / "tests" / "keys" / "rsa-public.pem").read_text()


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(
    subject: str | None = "ann",
    *,
    lasts: float = 3600,
    issued: float | None = None,
    algorithm: str = "HS256",
    header: dict[str, Any] | None = None,
    secret: str = SECRET,
    **claims: Any,
) -> str:
    """A token that is issued now, or at another time of Unix."""
    issued = time.time() if issued is None else issued
    payload = {"sub": subject, "iat": issued, "exp": issued + lasts, **claims}
    kept = {name: value for name, value in payload.items() if value is not None}
    parts = [{"alg": algorithm, "typ": "JWT", **(header or {})}, kept]
    signed = ".".join(encoded(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{encoded(signature(algorithm, signed.encode(), secret))}"


def signature(algorithm: str, message: bytes, secret: str) -> bytes:
    if algorithm == "HS256":
        return hmac.digest(secret.encode(), message, "sha256")
    if algorithm == "RS256":
        number, _, private, *_ = numbers()
        size = (number.bit_length() + 7) // 8
        digest = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(message).digest()
        block = b"\x00\x01" + b"\xff" * (size - len(digest) - 3) + b"\x00" + digest
        return pow(int.from_bytes(block), private, number).to_bytes(size)  # RFC 8017 §8.2.1
    return b"no signature"


def modulus() -> int:
    """Of the RSA key."""
    return numbers()[0]


@functools.cache
def numbers() -> list[int]:
    """Those of the private RSA key (RFC 8017 A.1.2)."""
    pem = (ROOT / "tests" / "keys" / "rsa.pem").read_text()
    der = base64.b64decode("".join(re.findall(r"^[^-].*$", pem, re.MULTILINE)))
    return integers(der[der.index(b"\x04\x82") + 4 :])


def integers(der: bytes) -> list[int]:
    """Those of a sequence, the version left out."""
    found, place = [], 4
    while place < len(der):
        length, place = der[place + 1], place + 2
        if length > 0x80:
            count = length - 0x80
            length, place = int.from_bytes(der[place : place + count]), place + count
        found.append(int.from_bytes(der[place : place + length]))
        place += length
    return found[1:]

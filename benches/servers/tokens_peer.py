"""PyJWT: signs tokens for the rows about tokens, and verifies them for comparison."""

from __future__ import annotations

import json
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def keys(algorithm: str) -> tuple[Any, bytes]:
    """A new key for signing, and what verifies: a secret, or a public key in PEM."""
    if algorithm.startswith("HS"):
        secret = secrets.token_urlsafe(64).encode()
        return secret, secret
    made: Any
    if algorithm.startswith(("RS", "PS")):
        made = rsa.generate_private_key(65537, 2048)
    elif algorithm == "EdDSA":
        made = ed25519.Ed25519PrivateKey.generate()
    else:
        made = ec.generate_private_key(ec.SECP256R1() if algorithm == "ES256" else ec.SECP384R1())
    return made, made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sign(algorithm: str, count: int, place: Path) -> None:
    """Write a key and so many different tokens."""
    private, public = keys(algorithm)
    (place / "key").write_bytes(public)
    now = int(time.time())
    claims = {"iat": now, "exp": now + 3600, "iss": "https://id.example", "role": "reader"}
    tokens = [jwt.encode({**claims, "sub": f"user-{number}"}, private, algorithm) for number in range(count)]
    (place / "tokens").write_text("\n".join(tokens))


def verify(algorithm: str, place: Path) -> float:
    """Verifications per second of the tokens, as the documentation of PyJWT shows it."""
    key = (place / "key").read_bytes()
    tokens = (place / "tokens").read_text().split()
    options: Any = {"require": ["exp", "sub"]}
    began = time.perf_counter()
    for token in tokens:
        jwt.decode(token, key, algorithms=[algorithm], issuer="https://id.example", options=options)
    return len(tokens) / (time.perf_counter() - began)


if __name__ == "__main__":
    command, algorithm, place, *count = sys.argv[1:]
    if command == "sign":
        sign(algorithm, int(count[0]), Path(place))
        print(json.dumps({}))
    else:
        print(json.dumps({"per_second": verify(algorithm, Path(place))}))

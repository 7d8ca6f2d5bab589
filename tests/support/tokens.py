"""Issuers for tests: their keys, as they publish them, and tokens that they sign."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from meshlib.security.base64url import encode

Jwk = dict[str, Any]
HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
CURVES = {
    "ES256": (ec.SECP256R1(), "P-256", 32),
    "ES384": (ec.SECP384R1(), "P-384", 48),
    "ES512": (ec.SECP521R1(), "P-521", 66),
}


class Issuer:
    """Who signs with one key by one algorithm. ``jwk``: its public key (of HS*: the secret)."""

    def __init__(self, algorithm: str, jwk: Jwk, sign: Callable[[bytes], bytes]) -> None:
        self.algorithm = algorithm
        self.jwk = jwk
        self.sign = sign

    def jwks(self, **more: Any) -> str:
        """Its key set; ``more`` in its key."""
        return json.dumps({"keys": [{**self.jwk, **more}]})

    def token(self, claims: Any, header: dict[str, Any] | None = None) -> str:
        """A token of ``claims`` (bytes: a payload as it is). ``header`` adds to, or takes (None) from, alg and kid."""
        found = {"alg": self.algorithm, "kid": self.jwk.get("kid"), **(header or {})}
        payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        return self.signed(json.dumps({k: v for k, v in found.items() if v is not None}).encode(), payload)

    def signed(self, header: bytes, payload: bytes) -> str:
        """A token of exactly these parts."""
        signed = f"{encode(header)}.{encode(payload)}"
        return f"{signed}.{encode(self.sign(signed.encode()))}"


@cache
def issuer(algorithm: str, name: str = "a") -> Issuer:
    """One for each ``algorithm`` and ``name``, which is its kid."""
    if algorithm[:2] in ("RS", "PS"):
        jwk, sign = _rsa(algorithm)
    elif algorithm[:2] == "ES":
        jwk, sign = _ec(algorithm)
    elif algorithm[:2] == "HS":
        secret = f"{name}-".encode() * 40
        jwk = {"kty": "oct", "k": encode(secret)}
        sign = lambda content: hmac.digest(secret, content, f"sha{algorithm[2:]}")  # noqa: E731
    else:
        private = ed25519.Ed25519PrivateKey.generate()
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": encode(private.public_key().public_bytes_raw())}
        sign = private.sign
    return Issuer(algorithm, {**jwk, "kid": name}, sign)


def number(value: int, size: int = 0) -> str:
    """As JWK writes numbers."""
    return encode(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def _rsa(algorithm: str) -> tuple[Jwk, Callable[[bytes], bytes]]:
    private = rsa_key()
    numbers, digest = private.public_key().public_numbers(), HASHES[algorithm[2:]]
    shape = padding.PKCS1v15() if algorithm[0] == "R" else padding.PSS(padding.MGF1(digest), digest.digest_size)
    jwk = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
    return jwk, lambda content: private.sign(content, shape, digest)


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """They take long to make: all tests share one."""
    return rsa.generate_private_key(65537, bits)


def _ec(algorithm: str) -> tuple[Jwk, Callable[[bytes], bytes]]:
    curve, name, size = CURVES[algorithm]
    private = ec.generate_private_key(curve)
    numbers = private.public_key().public_numbers()

    def sign(content: bytes) -> bytes:
        r, s = decode_dss_signature(private.sign(content, ec.ECDSA(HASHES[algorithm[2:]])))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    return {"kty": "EC", "crv": name, "x": number(numbers.x, size), "y": number(numbers.y, size)}, sign

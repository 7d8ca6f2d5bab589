"""JSON Web Signatures in their compact form (RFC 7515), and nothing else of that family.

The form is checked before anything reads a part of it. Headers that change what a token means (``crit``, ``b64``, a nested or
encrypted token) are refused; ``jku``, ``x5u``, ``jwk`` and ``x5c``, where an attacker would bring his own key, are never read.
Texts of refusals are those of Envoy's ``jwt_authn``, which its callers see.
"""

from __future__ import annotations

from functools import lru_cache

from meshlib.security.base64url import NotBase64Url, decode
from meshlib.security.jwk import ALGORITHMS, KeySet
from meshlib.security.strict_json import NotJson, loads

MAX_TOKEN = 16 * 1024
"""Characters."""
_REMEMBERED_HEADER = 512
"""Characters: longer headers are rare, and read each time."""

BAD_FORM = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
HEADER_NOT_BASE64 = "Jwt header is an invalid Base64url encoded"
HEADER_NOT_JSON = "Jwt header is an invalid JSON"
NO_ALGORITHM = "Jwt header [alg] field is required and must be a string"
UNKNOWN_ALGORITHM = "Jwt header [alg] is not supported"
KID_NOT_STRING = "Jwt header [kid] field is not a string"
CRITICAL = "Jwt header [crit] is not supported"
DETACHED = "Jwt header [b64] is not supported"
NESTED = "Jwt is nested or encrypted"
PAYLOAD_NOT_BASE64 = "Jwt payload is an invalid Base64url encoded"
SIGNATURE_NOT_BASE64 = "Jwt signature is an invalid Base64url encoded"
NO_KEY = "Jwks doesn't have key to match kid or alg from Jwt"
NOT_VERIFIED = "Jwt verification fails"
WRONG_ED25519_LENGTH = "Jwt ED25519 signature is wrong length"
_ED25519_SIGNATURE = 64
"""Bytes."""


class TokenRefused(Exception):
    """``reason`` is for the caller, too. Nothing of the token is in it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Compact:
    """A token in its parts, of which nothing is verified yet. ``signature`` is read when somebody asks, who may find other
    faults first, as Envoy does."""

    __slots__ = ("_signature", "_signature_text", "algorithm", "kid", "payload", "payload_text", "signed")

    def __init__(
        self, algorithm: str, kid: str, payload: bytes, payload_text: str, signature_text: str, signed: bytes
    ) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.payload = payload
        self.payload_text = payload_text
        self._signature_text = signature_text
        self._signature: bytes | None = None
        self.signed = signed

    def signature(self) -> bytes:
        """The signature. Raises ``TokenRefused``."""
        found = self._signature
        if found is None:
            found = self._signature = _decoded(self._signature_text, SIGNATURE_NOT_BASE64)
        return found

    def __repr__(self) -> str:
        return f"<Compact {self.algorithm}>"


def parse(token: str) -> Compact:
    """The parts of a token. Raises ``TokenRefused``."""
    parts = token.split(".") if len(token) <= MAX_TOKEN else ()
    if len(parts) != 3 or not parts[0] or not parts[2]:
        raise TokenRefused(BAD_FORM)
    header, payload, signature = parts
    algorithm, kid = (_known_header if len(header) <= _REMEMBERED_HEADER else _header)(header)
    return Compact(
        algorithm,
        kid,
        _decoded(payload, PAYLOAD_NOT_BASE64),
        payload,
        signature,
        f"{header}.{payload}".encode("ascii"),
    )


def verify(token: Compact, keys: KeySet) -> None:
    """Hold the signature against ``keys``. Raises ``TokenRefused``."""
    signature, algorithm = token.signature(), token.algorithm
    candidates = keys.of(token.kid, algorithm)
    if not candidates:
        raise TokenRefused(NO_KEY)
    for key in candidates:
        if key.ed25519 and len(signature) != _ED25519_SIGNATURE:
            raise TokenRefused(WRONG_ED25519_LENGTH)  # as Envoy, which asks no further key then
        check = key.by_algorithm.get(algorithm)
        if check is not None and check(signature, token.signed):
            return
    raise TokenRefused(NOT_VERIFIED)


def _decoded(text: str, reason: str) -> bytes:
    try:
        return decode(text)
    except NotBase64Url:
        pass
    raise TokenRefused(reason)


def _header(text: str) -> tuple[str, str]:
    """Algorithm and key id."""
    content = _decoded(text, HEADER_NOT_BASE64)
    try:
        header = loads(content)
    except NotJson:
        header = None
    if not isinstance(header, dict):
        raise TokenRefused(HEADER_NOT_JSON)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise TokenRefused(NO_ALGORITHM)
    if "enc" in header or "zip" in header or _says_jwt(header.get("cty")):
        raise TokenRefused(NESTED)
    if algorithm not in ALGORITHMS:
        raise TokenRefused(UNKNOWN_ALGORITHM)
    kid = header.get("kid", "")
    if not isinstance(kid, str):
        raise TokenRefused(KID_NOT_STRING)
    if "crit" in header:
        raise TokenRefused(CRITICAL)
    if "b64" in header:
        raise TokenRefused(DETACHED)
    return algorithm, kid


_known_header = lru_cache(256)(_header)


def _says_jwt(content_type: object) -> bool:
    return content_type is not None and (
        not isinstance(content_type, str) or content_type.lower().removeprefix("application/") in ("jwt", "jose")
    )

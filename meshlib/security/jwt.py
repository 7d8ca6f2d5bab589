"""JSON Web Tokens (RFC 7519): the claims that decide whether a token is taken, as Envoy's ``jwt_authn`` reads them.

``exp`` and ``nbf`` are cut to whole seconds and have ``SKEW`` seconds of grace. ``iss`` is compared exactly; ``aud`` without
its scheme and one final slash, on both sides, as Envoy does. Where Envoy takes ``exp: 0`` for "never", it is 1970 here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from meshlib.security.jwk import KeySet
from meshlib.security.jws import BAD_FORM, TokenRefused, verify
from meshlib.security.jws import parse as parse_jws
from meshlib.security.strict_json import Json, NotJson, loads

SKEW = 60
"""Seconds."""
_BEYOND = 2**64

MISSING = "Jwt is missing"
PAYLOAD_NOT_JSON = "Jwt payload is an invalid JSON"
AUDIENCES_NOT_STRINGS = "Jwt payload [aud] field is not a string or string list"
NOT_YET_VALID = "Jwt not yet valid"
EXPIRED = "Jwt is expired"
UNKNOWN_ISSUER = "Jwt issuer is not configured"
AUDIENCE_NOT_ALLOWED = "Audiences in Jwt are not allowed"
NO_VALID_KEYS = "Jwks doesn't have any valid public key"
FETCH_FAILED = "Jwks remote fetch is failed"


class Jwt:
    """What a token says; nothing of it is to be believed before ``check`` and ``verify`` have passed.

    ``issuer`` and ``subject`` are "" when the token has none; ``expires`` (Unix time) is None when it never does.
    ``payload_text`` is the payload as it stands in the token, in base64url.
    """

    __slots__ = ("_compact", "audiences", "claims", "expires", "issuer", "kid", "not_before", "payload_text", "subject")

    def __init__(self, token: str) -> None:
        """Read a token. Raises ``TokenRefused``."""
        compact = parse_jws(token)
        if not compact.payload_text:
            raise TokenRefused(BAD_FORM)  # Envoy counts two sections
        try:
            claims = loads(compact.payload)
        except NotJson:
            claims = None
        if not isinstance(claims, dict):
            raise TokenRefused(PAYLOAD_NOT_JSON)
        self._compact = compact
        self.kid = compact.kid
        self.payload_text = compact.payload_text
        self.claims = claims
        self.issuer = _text(claims, "iss")
        self.subject = _text(claims, "sub")
        _time(claims, "iat")
        self.not_before = _time(claims, "nbf") or 0
        self.expires = _time(claims, "exp")
        _text(claims, "jti")
        self.audiences = _audiences(claims)
        compact.signature()

    def check(self, issuer: str, audiences: frozenset[str], now: float) -> None:
        """Hold it against what is wanted: an ``issuer`` ("": any) and one of ``audiences`` (as ``audience`` makes them;
        none: any); ``now`` is Unix time. In Envoy's order. Raises ``TokenRefused``."""
        if issuer and self.issuer != issuer:
            raise TokenRefused(UNKNOWN_ISSUER)
        self.check_times(now)
        if audiences and audiences.isdisjoint(map(audience, self.audiences)):
            raise TokenRefused(AUDIENCE_NOT_ALLOWED)

    def check_times(self, now: float) -> None:
        """Raises ``TokenRefused`` when it is not valid yet, or not any more."""
        seconds = int(now)
        if seconds + SKEW < self.not_before:
            raise TokenRefused(NOT_YET_VALID)
        if self.expires is not None and seconds > self.expires + SKEW:
            raise TokenRefused(EXPIRED)

    def current(self) -> tuple[float, float]:
        """From when, and before when, ``check_times`` has nothing against it (of times that are not before 1970)."""
        return self.not_before - SKEW, math.inf if self.expires is None else self.expires + SKEW + 1

    def verify(self, keys: KeySet) -> None:
        """Hold its signature against ``keys``. Raises ``TokenRefused``."""
        if not keys.keys:
            raise TokenRefused(NO_VALID_KEYS)
        verify(self._compact, keys)

    def __repr__(self) -> str:
        return f"<Jwt of {self.issuer!r}>"


def audience(text: str) -> str:
    """An audience as it is compared: without http:// or https://, and without one final slash."""
    start = 7 if text.startswith("http://") else 8 if text.startswith("https://") else 0
    return text[start : -1 if text.endswith("/") else None]


def wanted_audiences(texts: Iterable[str]) -> frozenset[str]:
    """Audiences of a rule, for ``Jwt.check``."""
    return frozenset(map(audience, texts))


def _text(claims: dict[str, Json], name: str) -> str:
    found = claims.get(name, "")
    if not isinstance(found, str):
        raise TokenRefused(f"Jwt payload [{name}] field is not a string")
    return found


def _time(claims: dict[str, Json], name: str) -> int | None:
    if name not in claims:
        return None
    found = claims[name]
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise TokenRefused(f"Jwt payload [{name}] field is not an integer")
    if not 0 <= found < _BEYOND:
        raise TokenRefused(f"Jwt payload [{name}] field is not a positive 64 bit integer")
    return int(found)


def _audiences(claims: dict[str, Json]) -> tuple[str, ...]:
    if "aud" not in claims:
        return ()
    found = claims["aud"]
    if isinstance(found, str):
        return (found,)
    if not isinstance(found, list):
        raise TokenRefused(AUDIENCES_NOT_STRINGS)
    texts = tuple([one for one in found if isinstance(one, str)])
    if len(texts) != len(found):
        raise TokenRefused(AUDIENCES_NOT_STRINGS)
    return texts

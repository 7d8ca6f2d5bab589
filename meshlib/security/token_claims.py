"""What becomes of the claims of a verified token: a principal, lists out of texts, headers for the application.

As Envoy's ``jwt_authn`` filter has it, which Istio configures so.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping

SPACE_DELIMITED = frozenset(("scope", "permission"))
"""Claims that are always split; ``spaceDelimitedClaims`` adds to them."""


def principal(claims: Mapping[str, object]) -> str:
    """``issuer/subject``; "" when the token lacks one of them."""
    issuer, subject = claims.get("iss"), claims.get("sub")
    return f"{issuer}/{subject}" if issuer and subject else ""


def split_claims(claims: Mapping[str, object], names: Collection[str]) -> Mapping[str, object]:
    """The claims, those of ``names`` that are texts of words as lists of words."""
    split = {
        name: [word for word in value.split(" ") if word]
        for name in names
        if isinstance(value := claims.get(name), str) and value.strip(" ")
    }
    return {**claims, **split} if split else claims


def claim_path(claim: str) -> tuple[str, ...]:
    """Where a claim of ``outputClaimToHeaders`` is: ``a.b`` is b in a."""
    return tuple(claim.split("."))


def claim_as_header(claims: Mapping[str, object], path: tuple[str, ...]) -> bytes | None:
    """The value of a header for the claim at ``path``: texts, numbers and booleans as they are, lists and objects as JSON in
    base64. None: there is none, or it would not be a header's value."""
    found: object = claims
    for name in path:
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    text = _text(found)
    if not text or any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):
        return None
    return text.encode()


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        number = float(value)  # as Envoy, to which every number is a double
        return str(int(number)) if 0 <= number < 2**64 and number.is_integer() else f"{number:f}"
    if isinstance(value, (list, Mapping)):
        return base64.b64encode(_json(value).encode()).decode()
    return ""


def _json(value: object) -> str:
    """As protobuf writes it."""
    text = json.dumps(_doubles(value), separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def _doubles(value: object) -> object:
    if isinstance(value, list):
        return [_doubles(entry) for entry in value]
    if isinstance(value, Mapping):
        return {name: _doubles(entry) for name, entry in value.items()}
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    return value

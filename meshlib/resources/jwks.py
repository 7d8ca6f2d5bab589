"""JSON Web Key Sets that a resource has inline: what istiod's parser takes, and whether a key is a secret."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import TypeGuard

from meshlib.resources.values import Value

_REQUIRED = {
    "RSA": ("n", "e"),
    "EC": ("crv", "x", "y"),
    "OKP": ("crv", "x"),
    "oct": ("k",),
}
_TEXTS = ("alg", "kid", "use", "x5t", "x5t#S256")
_BINARY = {"RSA": ("n", "e"), "EC": ("x", "y"), "OKP": ("x",), "oct": ("k",)}
_PRIVATE = {"RSA": ("d", "p", "q", "dp", "dq", "qi"), "EC": ("d",), "OKP": ("d",), "oct": ()}
"""Read of keys that have a d."""

_SEQUENCE = 0x30
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]*|[A-Za-z0-9\-_]*)={0,2}")


def jwks_problem(text: str) -> str:
    """Why ``text`` is neither a key set nor a key, "" when it is one."""
    try:
        parsed = _first(text)
    except (ValueError, RecursionError) as error:
        return f"it is not JSON ({error})"
    if not isinstance(parsed, dict):
        return 'it is not an object {"keys": [...]}'
    keys = parsed.get("keys", [parsed])
    if not isinstance(keys, (list, type(None))):
        return "keys is not a list"
    for index, key in enumerate(keys or ()):
        problem = _key_problem(key)
        if problem:
            return f"key {index}: {problem}" if "keys" in parsed else problem
    return ""


def secret_keys(text: str) -> Iterator[int]:
    """Positions of the keys that hold more than is needed to verify: private and symmetric ones."""
    parsed = _first(text)
    keys = parsed.get("keys", [parsed]) if isinstance(parsed, dict) else ()
    for index, key in enumerate(keys if isinstance(keys, list) else ()):
        if isinstance(key, dict) and (key["kty"] == "oct" or "d" in key):
            yield index


def _first(text: str) -> Value:
    """The first JSON value of the text; istiod's parser does not look at what follows it."""
    found: Value = _decoder.raw_decode(text.lstrip(" \t\r\n"))[0]
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_no_constant)


def _key_problem(key: object) -> str:
    if not isinstance(key, dict):
        return "it is not an object"
    kty = key.get("kty")
    if not isinstance(kty, str) or kty not in _REQUIRED:
        return f"kty {kty!r} is not one of {', '.join(_REQUIRED)}"
    missing = [name for name in _REQUIRED[kty] if name not in key]
    if missing:
        return f"{missing[0]} is missing"
    for name in (*_TEXTS, *(n for n in _REQUIRED[kty] if n == "crv")):
        if not isinstance(key.get(name), (str, type(None))):
            return f"{name} is not a text"
    for name in (*_BINARY[kty], *(_PRIVATE[kty] if "d" in key else ())):
        if key.get(name) is not None and not _is_base64(key[name]):
            return f"{name} is not base64"
    operations = key.get("key_ops")
    if operations is not None and not (isinstance(operations, list) and all(isinstance(o, str) for o in operations)):
        return "key_ops is not a list of texts"
    chain = key.get("x5c")
    if chain is not None and not (isinstance(chain, list) and all(_is_certificate(entry) for entry in chain)):
        return "x5c is not a list of certificates"
    return ""


def _is_base64(value: object) -> TypeGuard[str]:
    """Either alphabet, with padding or without."""
    if not isinstance(value, str):
        return False
    text = value.replace("\r", "").replace("\n", "")
    return _BASE64.fullmatch(text) is not None and len(text) % 4 in ((0,) if text.endswith("=") else (0, 2, 3))


def _is_certificate(value: object) -> bool:
    """Base64 of what is one object of ASN.1; what is in it is not looked at."""
    if not _is_base64(value):
        return False
    text = value.replace("\r", "").replace("\n", "").rstrip("=")
    der = base64.urlsafe_b64decode(text.replace("+", "-").replace("/", "_") + "=" * (-len(text) % 4))
    if len(der) < 2 or der[0] != _SEQUENCE:
        return False
    more = der[1] & 0x7F if der[1] & 0x80 else 0
    size = int.from_bytes(der[2 : 2 + more], "big") if more else der[1]
    return len(der) == 2 + more + size

"""JSON Web Key Sets that a resource has inline: what istiod's parser takes, and whether a key is a secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_REQUIRED = {
    "RSA": ("n", "e"),
    "EC": ("crv", "x", "y"),
    "OKP": ("crv", "x"),
    "oct": ("k",),
}
_TEXTS = ("alg", "crv", "kid", "use", "x5t", "x5t#S256", "x5u")
_BINARY = {
    "RSA": ("n", "e", "d", "p", "q", "dp", "dq", "qi"),
    "EC": ("x", "y", "d"),
    "OKP": ("x", "d"),
    "oct": ("k",),
}
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]*|[A-Za-z0-9\-_]*)={0,2}")


def jwks_problem(text: str) -> str:
    """Why ``text`` is neither a key set nor a key, "" when it is one."""
    try:
        parsed = json.loads(text, parse_constant=_no_constant)
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
    parsed = json.loads(text)
    for index, key in enumerate(parsed.get("keys", [parsed]) or ()):
        if key["kty"] == "oct" or "d" in key:
            yield index


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _key_problem(key: Any) -> str:
    if not isinstance(key, dict):
        return "it is not an object"
    kty = key.get("kty")
    if not isinstance(kty, str) or kty not in _REQUIRED:
        return f"kty {kty!r} is none of {', '.join(_REQUIRED)}"
    missing = [name for name in _REQUIRED[kty] if name not in key]
    if missing:
        return f"{missing[0]} is missing"
    for name in _TEXTS:
        if not isinstance(key.get(name), (str, type(None))):
            return f"{name} is not a text"
    for name in _BINARY[kty]:
        if key.get(name) is not None and not _is_base64(key[name]):
            return f"{name} is not base64"
    operations = key.get("key_ops") or []
    if not isinstance(operations, list) or not all(isinstance(operation, str) for operation in operations):
        return "key_ops is not a list of texts"
    return ""


def _is_base64(value: Any) -> bool:
    """Either alphabet, with padding or without."""
    if not isinstance(value, str):
        return False
    text = value.replace("\r", "").replace("\n", "")
    return _BASE64.fullmatch(text) is not None and len(text) % 4 in ((0,) if text.endswith("=") else (0, 2, 3))

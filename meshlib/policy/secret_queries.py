"""URLs whose query does not tell secrets, for whoever writes down where a request went."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from meshlib.policy.secret_values import HIDDEN, is_secret

INSTEAD = "***"
"""What stands for the value of a parameter that opens doors by itself."""
_DOUBTFUL = re.compile(
    rb"authorization|cookie|token|secret|passw|api|credential|signature|jwt|session|sig=|key=|code=|%|\+"
).search
"""What a query has that tells a secret (``is_secret``), and more. No alternative begins with a set, so that CPython skips all
bytes that none begins with."""
SHORT = 64
"""Bytes of a query of which that is asked at once; of longer ones it takes as long as to look at each name."""


def harmless(url: bytes) -> bool:
    """Whether a path, or a URL, surely tells no secret in its query, which is short. False: nobody knows."""
    at = url.find(b"?")
    return at < 0 or (len(url) - at <= SHORT and _DOUBTFUL(url.lower(), at) is None)


WITH_QUERY = frozenset((":path", "x-envoy-original-path", "referer"))
"""Headers whose value is a path, or a URL, with its query."""
LOCATIONS = frozenset(("location", "content-location"))
"""The same of responses."""


def header_shown(name: str, value: str) -> str:
    """What is written down of a header, its name in lower case: that it is there, or a URL without the secrets of its query."""
    if name in LOCATIONS:
        return location_without_secrets(value)
    return HIDDEN if is_secret(name) else without_secrets(value) if name in WITH_QUERY else value


def without_secrets(url: str) -> str:
    """A path, or a URL, whose query does not tell the values of parameters that open doors by themselves."""
    path, mark, query = url.partition("?")
    if not mark:
        return url
    return f"{path}?{query_without_secrets(query)}"


def location_without_secrets(url: str) -> str:
    """The same of a URL that a response sends its caller to: what stands behind a ``#`` may be parameters, too, as OAuth has
    tokens there."""
    there, mark, fragment = url.partition("#")
    told = without_secrets(fragment) if "?" in fragment else query_without_secrets(fragment)
    return f"{without_secrets(there)}{mark}{told}"


def query_without_secrets(query: str) -> str:
    """The same of a query alone."""
    pairs = query.split("&")
    for n, pair in enumerate(pairs):
        name, mark, value = pair.partition("=")
        if value and is_secret(decoded(name).lower()):
            pairs[n] = f"{name}{mark}{INSTEAD}"
    return "&".join(pairs)


_ENCODED = re.compile("%[0-9A-Fa-f]{2}")
_KEPT = frozenset('"<>\\^{|}')


def readable(query: str) -> str:
    """A query of which what is percent-encoded and legible is decoded, as Envoy does it: spaces, control characters, bytes that
    are not ASCII and ``"<>\\^{|}`` stay as they are."""

    def one(found: re.Match[str]) -> str:
        made = chr(int(found[0][1:], 16))
        return made if "!" <= made <= "~" and made not in _KEPT else found[0]

    return _ENCODED.sub(one, query)


def decoded(text: str) -> str:
    """A part of a query without its percent signs, as a wire string (bytes read as latin-1)."""
    if "%" not in text and "+" not in text:
        return text
    return unquote_to_bytes(text.replace("+", " ").encode("latin-1", "replace")).decode("latin-1")

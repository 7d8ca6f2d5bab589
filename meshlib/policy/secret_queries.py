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


_ENCODED = re.compile("%[0-9A-Fa-f]{2}")
_USERINFO = re.compile(r"(\A[A-Za-z][A-Za-z0-9+.-]*:[/\\]*|[/\\]{2})[^/\\?#]*@")
_RUN = re.compile(r"[^?;#,=]+(=?)")
"""What may be a name, with its ``=``. What has none matches, too, so that no byte is looked at twice."""
_PARTS = re.compile(r"[^\w.-]+")
_DEEPEST = 4


def location_without_secrets(url: str) -> str:
    """The same of a URL that a response sends its caller to, wherever in it parameters may stand: behind a ``#``, as OAuth has
    tokens there, in a URL within the URL, percent-encoded or not, in one of several that are joined by commas. All of a secret
    is hidden up to the next ``&`` (or the fragment); userinfo is taken away."""
    return _nested_without_secrets(url, _DEEPEST)


def _nested_without_secrets(url: str, deep: int) -> str:
    there, mark, fragment = _USERINFO.sub(r"\1", url).partition("#")
    return f"{_stretches_without_secrets(there, deep)}{mark}{_stretches_without_secrets(fragment, deep)}"


def _stretches_without_secrets(text: str, deep: int) -> str:
    return "&".join([_stretch_without_secrets(stretch, deep) for stretch in text.split("&")])


def _stretch_without_secrets(stretch: str, deep: int) -> str:
    for found in _RUN.finditer(stretch):
        run, end = found[0], found.end()
        if found[1] and end < len(stretch) and _names_a_secret(decoded(run[:-1]).lower()):
            return f"{stretch[:end]}{INSTEAD}"
        if _ENCODED.search(run) is not None:
            plain = decoded(run)
            if not deep or _nested_without_secrets(plain, deep - 1) != plain:
                return f"{stretch[: found.start()]}{INSTEAD}"
    return stretch


def _names_a_secret(name: str) -> bool:
    """Also the last part of a path: ``#/done/code=...``."""
    return is_secret(name) or any(map(is_secret, _PARTS.split(name)))


def query_without_secrets(query: str) -> str:
    """The same of a query alone."""
    pairs = query.split("&")
    for n, pair in enumerate(pairs):
        name, mark, value = pair.partition("=")
        if value and is_secret(decoded(name).lower()):
            pairs[n] = f"{name}{mark}{INSTEAD}"
        elif ";" in pair:
            pairs[n] = _between_semicolons(pair)
    return "&".join(pairs)


def _between_semicolons(pair: str) -> str:
    """What is one parameter to most, and several to servers that go by HTML 4. Behind a secret all is hidden, as it may be a
    part of it."""
    at = 0
    for each in pair.split(";"):
        name, mark, value = each.partition("=")
        at += len(name) + len(mark)
        if value and is_secret(decoded(name).lower()):
            return f"{pair[:at]}{INSTEAD}"
        at += len(value) + 1
    return pair


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

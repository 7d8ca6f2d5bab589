"""Where an httpx URL leads: its scheme, and the host and port that are dialled. What leads nowhere is refused here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.transport.protocol.shortcuts import PLAIN

if TYPE_CHECKING:
    import httpx

SPOKEN = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
"""Schemes that httpx's own transports accept; a WebSocket begins as an HTTP request."""

MAX_KNOWN = 4096
_KEPT_IN = "_meshlib_place"
MAX_PORT = 65535


class BadUrl(Exception):
    """The URL cannot be called. ``port`` is the impossible port it names; None: its scheme is not spoken here, or it has
    no host."""

    def __init__(self, message: str, port: int | None = None) -> None:
        super().__init__(message)
        self.port = port


# A URL's host and port take httpx a microsecond to put together, a fifth of what a whole call costs (row "policy cost");
# a program calls few origins.
_known: dict[tuple[str, bytes, int | None], tuple[str, str]] = {}


def origin_of(url: httpx.URL) -> tuple[str, str]:
    """``("http", "reviews:9080")`` of an httpx (or httpx2) URL; no port when it is the scheme's own. Raises ``BadUrl``."""
    key = (url.scheme, url.raw_host, url.port)
    found = _known.get(key)
    if found is None:
        found = _checked(url)
        if PLAIN:
            return found
        if len(_known) >= MAX_KNOWN:
            _known.clear()
        _known[key] = found
    return found


Place = tuple[str, str, bytes, str, str, str]
"""A URL as a request is sent there: scheme, host and port that are dialled, target as in the request line, the same as text,
path, query; all of them wire strings. No class of ours: URLs are pickled with it, and read where there may be no meshlib."""


def place_of(url: httpx.URL) -> Place:
    """What ``url`` leads to, which is kept with it: a request may be sent again. Raises ``BadUrl``."""
    kept: Place | None = getattr(url, _KEPT_IN, None)
    if kept is not None:
        return kept
    scheme, dialled = origin_of(url)
    target = url.raw_path
    full_path = target.decode("latin-1")
    path, _, query = full_path.partition("?")
    place = scheme, dialled, target, full_path, path, query
    if not PLAIN:
        setattr(url, _KEPT_IN, place)
    return place


def _checked(url: httpx.URL) -> tuple[str, str]:
    scheme = SPOKEN.get(url.scheme)
    if not url.scheme or not url.host:
        raise BadUrl("Request URL is missing an 'http://' or 'https://' protocol.")
    if scheme is None:
        raise BadUrl(f"Request URL has an unsupported protocol '{url.scheme}://'.")
    port = url.port
    if port is not None and not 0 <= port <= MAX_PORT:
        raise BadUrl(f"{port} is not a port: the URL's port must be between 0 and {MAX_PORT}", port)
    return scheme, url.netloc.decode("ascii")


def written_port(url: str) -> int:
    """The port that the text of a URL names, 0 when it names none. httpx itself forgets one that is the scheme's own."""
    authority = url.partition("://")[2].partition("/")[0].partition("?")[0].partition("#")[0].rpartition("@")[2]
    port = authority.rpartition("]")[2].partition(":")[2]
    return int(port) if port.isascii() and port.isdigit() else 0

"""URLs that keys are fetched from, and where a redirect may lead: to the same server, and not out of TLS."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from urllib.parse import unquote, urljoin, urlsplit

_PORTS = {"http": 80, "https": 443}


class BadKeyUrl(ValueError):
    """Why nothing is fetched from there."""


@dataclass(frozen=True, slots=True)
class KeyUrl:
    """``authority`` as written, without user; ``target``: path and query; ``credentials``: those of Basic authentication, in
    base64, "" without a user."""

    scheme: str
    authority: str
    host: str
    port: int
    target: str
    credentials: str = ""

    def __repr__(self) -> str:
        return f"<KeyUrl {self.scheme}://{self.authority}>"


def key_url(text: str) -> KeyUrl:
    """The URL of keys. Raises ``BadKeyUrl``."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise BadKeyUrl("it is not a URL") from None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS:
        raise BadKeyUrl("its scheme is neither http nor https")
    if not host:
        raise BadKeyUrl("it has no host")
    if any(not 0x21 <= ord(character) <= 0x7E for character in text):
        raise BadKeyUrl("it has characters that do not belong into URLs")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    credentials = ""
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials = base64.b64encode(user.encode()).decode()
    return KeyUrl(scheme, parts.netloc.rpartition("@")[2], host, port or _PORTS[scheme], target, credentials)


def redirected(url: KeyUrl, location: str) -> KeyUrl:
    """Where a redirect from ``url`` leads: another path of the same server, or the same host by https. Raises ``BadKeyUrl`` for
    every other place: whoever answers for a key set does not choose whom this program talks to."""
    found = key_url(urljoin(f"{url.scheme}://{url.authority}{url.target}", location))
    same = (found.scheme, found.host, found.port) == (url.scheme, url.host, url.port)
    to_tls = (url.scheme, url.port, found.scheme, found.port) == ("http", 80, "https", 443) and found.host == url.host
    if not same and not to_tls:
        raise BadKeyUrl("it redirects to another server")
    if found.credentials:
        raise BadKeyUrl("it redirects to a URL with a user")
    return KeyUrl(found.scheme, found.authority, found.host, found.port, found.target, url.credentials)

"""URLs of Redis, as the library redis reads them. What it would read as something else than was meant is refused: another host
or database, the default port. No text that is returned has any part of the URL in it: there may be a password."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qs, urlsplit

from meshlib.resources.addresses import is_address

_SCHEMES = ("redis", "rediss", "unix")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?")
_DATABASE = re.compile(r"(/[0-9]*)?")
_UNSEEN = re.compile(r"[\x00-\x20\x7f]")
_ENCODE = "in a user name or password write % as %25, / as %2F, ? as %3F, # as %23, @ as %40, [ as %5B and ] as %5D"
EXAMPLE = "for example redis://redis:6379/0, rediss://user:password@redis:6379/0 or unix:///run/redis.sock?db=0"


def redis_url_problem(text: str) -> tuple[str, str] | None:
    """Why ``text`` is not a URL of Redis, and what to do; None when it is one."""
    if not text:
        return "the URL is empty", EXAMPLE
    if _UNSEEN.search(text):
        return "the URL has a blank or a control character", "remove it; in a password write a blank as %20"
    if not text.startswith(tuple(f"{scheme}://" for scheme in _SCHEMES)):
        return "the URL does not begin with redis://, rediss:// or unix://", EXAMPLE
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return "host and port of the URL cannot be read", f"{EXAMPLE}; {_ENCODE}"
    if "#" in text:
        return "the URL has a #, behind which nothing is read", _ENCODE
    if "@" in url.path + url.query and "@" not in url.netloc and url.scheme != "unix":
        return "the URL has an @ behind the first / or ?, where no user is read", _ENCODE
    problem = _socket(url) if url.scheme == "unix" else _server(url, port)
    if problem is None and not all(_is_number(value) for value in parse_qs(url.query).get("db", ())):
        return "the URL's option db is not a number", "for example ?db=0"
    return problem


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _server(url: SplitResult, port: int | None) -> tuple[str, str] | None:
    host = url.hostname
    if not host:
        return "the URL has no host", EXAMPLE
    if not (is_address(host) if ":" in host else _HOST.fullmatch(host)):
        return "the host of the URL is not a host name or IP address", f"{EXAMPLE}; {_ENCODE}"
    if port == 0:
        return "the URL has port 0", "write the port of Redis, 6379 for example, or leave it out"
    if not _DATABASE.fullmatch(url.path):
        return "the path of the URL is not the number of a database", "for example redis://redis:6379/0"
    return None


def _socket(url: SplitResult) -> tuple[str, str] | None:
    if url.netloc.rpartition("@")[2]:
        return "the URL has a host before the socket's path, which is not read", "write unix:/// and the absolute path"
    if url.path in ("", "/"):
        return "the URL has no path of a socket", "for example unix:///run/redis.sock?db=0"
    return None

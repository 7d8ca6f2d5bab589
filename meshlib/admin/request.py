"""One request to the admin endpoint, read from bytes: GET or HEAD, without a body, of a bounded size; POST where something is
to change, and nothing but POST there.

What is anything else is refused before a page is looked up. A name in Host that is not this machine's is what a web page of
somebody else sends, once its own name leads to 127.0.0.1 (DNS rebinding): refused, too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

MOST_BYTES = 8 * 1024
MOST_FIELDS = 64
METHODS = ("GET", "HEAD")
NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class AdminRequest:
    """``path`` without its query, decoded; ``query`` by name, the last value of each; ``chunks``: the client reads chunked
    bodies (HTTP/1.1); ``accept`` is its Accept header."""

    method: str
    path: str
    query: dict[str, str]
    chunks: bool = True
    accept: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a request gets no page. ``allow``: the methods that would get one, of status 405."""

    status: int
    why: str
    allow: str = "GET, HEAD"


class RequestReader:
    """Fed with what comes over a connection. ``local``: the connection is a unix socket, which no browser reaches, so Host
    may say anything. ``changing``: the paths at which a POST changes something."""

    def __init__(self, *, local: bool, changing: Container[str] = NOTHING) -> None:
        self._local = local
        self._changing = changing
        self._parser: Any = HttpRequestParser(self)
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._size = 0
        self._found: AdminRequest | Refused | None = None

    def feed(self, data: bytes) -> AdminRequest | Refused | None:
        """What ``data`` completes; None: more has to come."""
        self._size += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if self._found is None:
                self._found = Refused(400, f"not an HTTP request: {_first_line(error)}")
        if self._found is None and self._size > MOST_BYTES:
            self._found = Refused(431, f"the head of a request may have {MOST_BYTES} bytes")
        return self._found

    def over(self) -> None:
        """Nothing more comes. (It and its parser refer to each other: they would stay for the garbage collector.)"""
        self._parser = None

    # -- what the parser calls ------------------------------------------------------------------------------------------

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._found is None:
            self._found = self._judge()

    def _judge(self) -> AdminRequest | Refused:
        if self._size > MOST_BYTES or len(self._fields) > MOST_FIELDS:
            return Refused(431, f"the head of a request may have {MOST_BYTES} bytes and {MOST_FIELDS} fields")
        method = self._parser.get_method().decode("latin-1")
        path = unquote(self._target.decode("latin-1").partition("?")[0])
        if path in self._changing and method != "POST":
            return Refused(405, f"{path} changes something: it takes POST alone (curl -X POST)", "POST")
        if method not in METHODS and path not in self._changing:
            return Refused(405, "only GET and HEAD are answered: nothing can be changed here")
        fields: dict[bytes, list[bytes]] = {}
        for name, value in self._fields:
            fields.setdefault(name, []).append(value)
        if b"transfer-encoding" in fields or fields.get(b"content-length", [b"0"]) != [b"0"]:
            return Refused(400, "a request with a body is not answered")
        version = self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            return Refused(505, "HTTP/1.1 is spoken here")
        hosts = fields.get(b"host", [])
        if len(hosts) > 1 or (not hosts and version == "1.1"):
            return Refused(400, "a request needs one Host")
        if not self._local and hosts and not is_this_machine(hosts[0].decode("latin-1")):
            return Refused(
                403, "Host is not this machine's: call it 127.0.0.1, [::1] or localhost (a web page cannot call this)"
            )
        if not self._local and fields.get(b"sec-fetch-site", [b"none"])[0] not in (b"none", b"same-origin"):
            return Refused(403, "a web page of another site cannot call this")
        if method == "POST" and b"origin" in fields:
            return Refused(403, "a web page cannot change anything here")
        accept = b",".join(fields.get(b"accept", ())).decode("latin-1")
        return _request_of(method, self._target.decode("latin-1"), version == "1.1", accept)


def is_this_machine(host: str) -> bool:
    """Whether a Host header names this machine as only this machine is named."""
    host = host.strip(" \t")
    name, bracket, port = host.partition("]")
    if bracket:
        name, port = name.removeprefix("["), port.removeprefix(":") if port else ""
    else:
        name, _, port = host.partition(":")
    if port and not (port.isascii() and port.isdecimal()):
        return False
    if name.lower().removesuffix(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _request_of(method: str, target: str, chunks: bool, accept: str) -> AdminRequest | Refused:
    path, _, query = target.partition("?")
    if not path.startswith("/"):
        return Refused(400, "the target of a request is a path, /clusters for example")
    try:
        found = parse_qs(query, keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        return Refused(400, "the query has too many fields")
    return AdminRequest(method, unquote(path), {name: values[-1] for name, values in found.items()}, chunks, accept)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]

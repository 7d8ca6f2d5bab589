"""The head of an HTTP/1.1 request as bytes, checked so that no reader can split it in another way."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence

from meshlib.transport.protocol.raw_head import Headers, RawHead
from meshlib.transport.protocol.sent_head import SentHead
from meshlib.transport.protocol.shortcuts import PLAIN

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
IN_VALUES = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])
"""Bytes that a header's value may hold: all but control characters, of which a tab is none."""

IN_TARGETS = bytes([*range(0x21, 0x7F), *range(0x80, 0x100)])
"""Bytes that a request target may hold: neither spaces nor control characters."""

_LINE_END = b"\r\n"
_NAME = operator.itemgetter(0)
_line = b": ".join

_known_names: set[bytes] = set()
"""Header names that were found to be tokens, as they are spelled. Programs have few, and asking a set costs a tenth of a regex
over the head (row "httpx.Client p50")."""

KNOWN_NAMES = 0 if PLAIN else 1024
"""How many of them are remembered at most."""


class InvalidHead(ValueError):
    """The request cannot be written as HTTP: a control character, a bad method, target or header name."""


def encode_head(method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Request line and headers. Raises ``InvalidHead`` rather than write what another reader might split differently."""
    if type(headers) is SentHead and method in METHODS and target and not target.translate(None, IN_TARGETS):
        return b"%b %b HTTP/1.1\r\n%b" % (method, target, headers.lines)
    # no step of bytecode a header: everything here is one pass in C
    known = True
    if type(headers) is RawHead:
        head = headers.encode(method, target) or b""
    else:
        lines = b"%b\r\n\r\n" % _LINE_END.join(map(_line, headers)) if headers else _LINE_END
        head = b"%b %b HTTP/1.1\r\n%b" % (method, target, lines)
        known = _known_names.issuperset(map(_NAME, headers))
    if (
        # what is left of it without what values may hold are the line ends written here, and nothing that a value smuggles in
        head.translate(None, IN_VALUES) != _LINE_END * (len(headers) + 2)
        or not (known or _are_tokens(headers))
        or (method not in METHODS and _TOKEN.fullmatch(method) is None)
        or not target
        or target.translate(None, IN_TARGETS)
    ):
        raise InvalidHead(_what_is_wrong(method, target, headers))
    return head


def _are_tokens(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether every name is one; remembers them."""
    for name, _ in headers:
        if name not in _known_names:
            if _TOKEN.fullmatch(name) is None:
                return False
            if len(_known_names) < KNOWN_NAMES:
                _known_names.add(bytes(name))
    return True


def _what_is_wrong(method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> str:
    if _TOKEN.fullmatch(method) is None:
        return f"the method {method!r} is not an HTTP token"
    if not target or target.translate(None, IN_TARGETS):
        return f"the request target {target[:100]!r} is empty or holds a space or control character"
    for name, value in headers:
        if _TOKEN.fullmatch(name) is None:
            return f"the header name {name[:100]!r} is not an HTTP token"
        if value.translate(None, IN_VALUES):
            return f"the value of header {name.decode('latin-1')} holds a line break or control character"
    return "the request head is not valid HTTP"


def upgrades(headers: Headers) -> set[bytes]:
    """The protocols that Upgrade names."""
    return {
        token
        for name, value in headers
        if len(name) == 7 and name.lower() == b"upgrade"
        for piece in value.split(b",")
        if (token := piece.strip(b" \t").lower())
    }


def asks_for_websocket(headers: Headers) -> bool:
    """Whether the request cannot be made over HTTP/2."""
    if type(headers) is RawHead:
        return any(b"websocket" in value.lower() for value in headers.values(b"upgrade"))
    if type(headers) is SentHead or 7 not in map(len, map(_NAME, headers)):  # no step of bytecode a header
        return False
    return any(
        b"websocket" in value.lower() for name, value in headers if len(name) == 7 and name.lower() == b"upgrade"
    )


def is_no_target(method: bytes, target: bytes) -> bool:
    """Whether the request line alone tells that it is none: it is no path, no URL of HTTP and no authority."""
    if target[:1] == b"/":
        return b"#" in target or bool(target.translate(None, IN_TARGETS))
    if method == b"CONNECT" or target == b"*":
        return not target.isascii()
    scheme, found, rest = target.partition(b"://")
    authority = rest.partition(b"/")[0]
    return not found or scheme.lower() not in (b"http", b"https") or not authority or not authority.isascii()

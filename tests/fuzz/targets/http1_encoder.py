"""A request of any method, target, headers and body: written so that a strict reader finds what was declared, or refused."""

from __future__ import annotations

import contextlib

from meshlib.transport.http1 import InvalidHead, encode_head
from meshlib.transport.http2_headers import request_head
from tests.fuzz.raw_input import RawInput

NAMES = (
    b"host",
    b"Host",
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"te",
    b"expect",
    b"cookie",
    b"x",
    b"upgrade",
)
VALUES = (b"", b"0", b"3", b"+3", b"chunked", b"gzip", b"close", b"x", b"trailers", b"a.test", b" 3", b"3 ", b"0x3")
METHODS = (b"GET", b"POST", b"HEAD", b"PUT", b"CONNECT", b"M-SEARCH")


def run(data: bytes) -> None:
    raw = RawInput(data)
    method = raw.pick(METHODS) if raw.flag() else raw.piece()
    target = b"/" if raw.flag() else raw.piece()
    headers = []
    for _ in range(raw.below(8)):
        name = raw.pick(NAMES) if raw.flag() else raw.piece()
        headers.append((name, raw.pick(VALUES) if raw.flag() else raw.piece()))
    try:
        head = encode_head(method, target, headers)
    except InvalidHead as error:
        assert str(error)
    else:
        assert split(head) == (method, target, [(name, value.strip(b" \t")) for name, value in headers])
    with contextlib.suppress(InvalidHead):
        for name, value in request_head(method, target, headers, b"http"):
            assert not set(value) & {0, 10, 13}, (name, value)
            assert name == name.lower()


def split(head: bytes) -> tuple[bytes, bytes, list[tuple[bytes, bytes]]]:
    """A request head by the letter of RFC 9112, cut at every byte that any server takes for a line's end."""
    assert head.endswith(b"\r\n\r\n")
    lines = head[:-4].split(b"\r\n")
    assert not any(set(line) & {0, 10, 13} for line in lines)
    method, target, version = lines[0].split(b" ")
    assert version == b"HTTP/1.1"
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        assert colon
        assert name == name.strip()
        assert name
        headers.append((name, value.strip(b" \t")))
    return method, target, headers

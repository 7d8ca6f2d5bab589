"""A request of any method, target, headers and body: written so that a strict reader finds what was declared, or refused."""

from __future__ import annotations

import contextlib
from typing import Any

from meshlib.policy.header_ops import RawHeaders
from meshlib.transport.protocol.framing import NoBody, framing_of
from meshlib.transport.protocol.http2_headers import request_head
from meshlib.transport.protocol.request_body import ReplayBody
from meshlib.transport.protocol.request_head import InvalidHead, encode_head
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
    written(raw, method, target, headers)
    with contextlib.suppress(InvalidHead):
        for name, value in request_head(method, target, headers, b"http"):
            assert not set(value) & {0, 10, 13}, (name, value)
            assert name == name.lower()


def written(raw: RawInput, method: bytes, target: bytes, headers: RawHeaders) -> None:
    """A whole request as HTTP/1.1 writes it, read again by what its head says."""
    pieces = [piece for _ in range(raw.below(4)) if (piece := raw.piece())]
    body: Any = raw.pick((None, b"".join(pieces), ReplayBody(iter(pieces))))
    try:
        framing = framing_of(headers, body)
        wire = encode_head(method, target, framing.headers)
        if isinstance(framing, NoBody):
            assert not body
            pieces = []
        elif isinstance(body, bytes):
            wire += framing.whole(body)
        else:
            wire += b"".join([framing.piece(piece) for piece in pieces])
            wire += framing.end()
    except InvalidHead as error:
        assert str(error)
        return
    head, end, rest = wire.partition(b"\r\n\r\n")
    *_, told = split(head + end)
    assert body_of(told, rest) == b"".join(pieces)


def body_of(headers: RawHeaders, data: bytes) -> bytes:
    """The body, by the letter; nothing may be left over for a next request."""
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    codings = [value for name, value in headers if name.lower() == b"transfer-encoding"]
    assert len(lengths) + len(codings) <= 1
    assert sum(name.lower() == b"host" for name, _ in headers) <= 1
    if lengths:
        assert lengths[0].isdigit()
        assert len(data) == int(lengths[0])
        return data
    if not codings:
        assert not data
        return b""
    assert codings == [b"chunked"]
    body = b""
    while True:
        size, line_end, data = data.partition(b"\r\n")
        assert line_end
        assert size == b"%x" % int(size, 16)
        if size == b"0":
            assert data == b"\r\n"
            return body
        body += data[: int(size, 16)]
        assert data[int(size, 16) :][:2] == b"\r\n"
        data = data[int(size, 16) + 2 :]


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

"""Transfer-Encoding: spellings, lists, repetitions, beside Content-Length."""

from __future__ import annotations

from collections.abc import Iterator

from tests.proxy.malformed.case import EVERY, Case, by_byte, get, numbered, post, request

VALUES = (
    b"chunked", b"Chunked", b"CHUNKED", b"chunKed", b" chunked", b"\tchunked", b"chunked ", b"chunked\t", b"\x0bchunked",
    b"chunked\x0b", b"\x0cchunked", b"\x00chunked", b"chunked\x00", b"\xa0chunked", b"chunked\xa0", b"\x85chunked",
    b"", b" ", b",", b"chunked,", b",chunked", b", chunked", b"chunked,,", b"chunked, ", b"chunked;", b"chunked;a=b",
    b"chunked; q=1", b";chunked", b'"chunked"', b"'chunked'", b"(chunked)", b"chunked (a)", b"chun ked", b"chunke",
    b"chunkedd",
    b"xchunked", b"chunked-", b"-chunked", b"x-chunked", b"chunked/1", b"identity", b"identity, chunked",
    b"chunked, identity", b"identity,identity", b"gzip", b"gzip, chunked", b"chunked, gzip", b"gzip,chunked,gzip",
    b"deflate", b"compress", b"br", b"x-gzip", b"trailers",
    b"chunked, chunked", b"chunked,chunked", b"chunked\tchunked", b"chunked chunked", b"cow", b"cow, chunked",
    b"chunked, cow", b"cow\r\n chunked", b"chunked\r\n cow", b"\r\n chunked", b"\r\n\tchunked", b"chunked\r\n ",
    b"chunked\r\n\t", b"chunked\r", b"chunked\n", b"\nchunked",
    b"\rchunked", b"chunk\red", b"chunk\ned", b"\xc3\xa7hunked", b"c\xc4\xa7unked", b"%63hunked", b"chunked%20",
    b"=?chunked?=", b"a" * 1000, b"a," * 1000 + b"chunked", b"chunked," * 100, b"null", b"0", b"1",
)  # fmt: skip
NAMES = (
    b"transfer-encoding", b"TRANSFER-ENCODING", b"Transfer-Encoding ", b"Transfer-Encoding\t", b" Transfer-Encoding",
    b"\tTransfer-Encoding", b"Transfer_Encoding", b"Transfer-encodin", b"Transfer-Encodings", b"Transfer-Encoding\0",
    b"Transfer Encoding",
    b"Transfer\r\n-Encoding", b"Transfer-\xc4\xb1ncoding", b"X-Transfer-Encoding", b"Transfer-Encoding:",
    b":Transfer-Encoding", b"Transfer-Encoding\x0b", b"\x0bTransfer-Encoding", b"T\xc5\xbfransfer-Encoding", b"TE",
)  # fmt: skip
BODY = b"2\r\nhi\r\n0\r\n\r\n"
SECOND = b"GET /second HTTP/1.1\r\nHost: shop00\r\n\r\n"
PAIRS = (b"chunked", b"Chunked", b"identity", b"gzip", b"", b"cow", b"chunked, identity", b" \tchunked")


def cases() -> Iterator[Case]:
    yield from numbered("coding", (post(b"Transfer-Encoding: " + value, body=BODY) for value in VALUES))
    yield from numbered("coding-second", (post(b"Transfer-Encoding: " + value, body=BODY + SECOND) for value in VALUES))
    yield from numbered("coding-get", (get(b"Transfer-Encoding: " + value, body=BODY) for value in VALUES))
    yield from numbered(
        "coding-1.0", (request(b"POST / HTTP/1.0", b"Transfer-Encoding: " + value, body=BODY) for value in VALUES[:30])
    )
    yield from numbered(
        "coding-length", (post(b"Transfer-Encoding: " + value, b"Content-Length: 12", body=BODY) for value in VALUES)
    )
    yield from numbered(
        "length-coding", (post(b"Content-Length: 12", b"Transfer-Encoding: " + value, body=BODY) for value in VALUES)
    )
    yield from numbered(
        "length-short-coding",
        (post(b"Content-Length: 3", b"Transfer-Encoding: " + value, body=BODY) for value in VALUES),
    )
    yield from numbered("coding-name", (post(name + b": chunked", body=BODY) for name in NAMES))
    yield from numbered(
        "coding-name-length", (post(name + b": chunked", b"Content-Length: 12", body=BODY) for name in NAMES)
    )
    yield from numbered(
        "coding-and-name", (post(b"Transfer-Encoding: chunked", name + b": identity", body=BODY) for name in NAMES)
    )
    yield from numbered(
        "coding-twice",
        (post(b"Transfer-Encoding: " + a, b"Transfer-Encoding: " + b, body=BODY) for a in PAIRS for b in PAIRS),
    )
    yield from numbered(
        "coding-twice-length",
        (
            post(b"Transfer-Encoding: " + a, b"Content-Length: 12", b"Transfer-Encoding: " + b, body=BODY)
            for a in PAIRS
            for b in PAIRS
        ),
    )
    yield from by_byte(
        "coding-first-byte", b"POST / HTTP/1.1\r\nHost: shop00\r\nTransfer-Encoding: ", b"chunked\r\n\r\n" + BODY, EVERY
    )
    yield from by_byte(
        "coding-last-byte", b"POST / HTTP/1.1\r\nHost: shop00\r\nTransfer-Encoding: chunked", b"\r\n\r\n" + BODY, EVERY
    )

"""Content-Length: spellings, repetitions, lists, bodies that are longer or shorter, methods that have none."""

from __future__ import annotations

from collections.abc import Iterator

from tests.proxy.malformed.case import EVERY, Case, by_byte, get, numbered, post, request

VALUES = (
    b"", b" ", b"0", b"00", b"02", b"002", b"0" * 30 + b"2", b"2 ", b" 2", b"\t2\t", b"+2", b"-2", b"-0", b"+0", b"2.0",
    b"2e0", b"0x2", b"0b10", b"02h", b"2h", b"h2", b"2,2", b"2, 2", b"2,3", b"3,2", b"2,", b",2", b",", b"2;2", b"2;a=b",
    b"2 2", b"2\t2", b"2_0", b"1_0", b'"2"', b"'2'", b"(2)", b"two", b"NaN", b"null", b"\xb2", b"\xd9\xa2", b"2\x00",
    b"\x002", b"2\x0b", b"\x0b2", b"2\x0c", b"2\x80", b"2\xa0", b"2\r\n 2", b"\r\n 2", b"2\r\n ", b"2\r\n\t", b"2\r", b"2\n",
    b"4294967296", b"4294967298", b"2147483648", b"9223372036854775807", b"9223372036854775808", b"18446744073709551615",
    b"18446744073709551616", b"18446744073709551618", b"9" * 30, b"1" + b"0" * 100, b"-9223372036854775806",
)  # fmt: skip
PAIRS = (b"2", b"02", b"3", b"0", b"", b" 2", b"+2", b"2,2", b"a", b"18446744073709551618")
NAMES = (
    b"content-length",
    b"CONTENT-LENGTH",
    b"Content-Length ",
    b" Content-Length",
    b"Content-length\t",
    b"Content_Length",
    b"Content-Lengt",
    b"Content-Lengths",
    b"Content-Length\0",
    b"Content Length",
    b"Content-\r\n Length",
    b"X-Content-Length",
)
SECOND = b"GET /second HTTP/1.1\r\nHost: shop00\r\n\r\n"
METHODS = (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE", b"PUT", b"PATCH", b"CONNECT", b"FOO", b"QUERY")


def cases() -> Iterator[Case]:
    yield from numbered("length", (post(b"Content-Length: " + value, body=b"hi") for value in VALUES))
    yield from numbered("length-no-space", (post(b"Content-Length:" + value, body=b"hi") for value in VALUES))
    yield from numbered("length-second", (post(b"Content-Length: " + value, body=b"hi" + SECOND) for value in VALUES))
    yield from numbered("length-get", (get(b"Content-Length: " + value, body=b"hi") for value in VALUES))
    yield from numbered(
        "length-twice",
        (post(b"Content-Length: " + a, b"Content-Length: " + b, body=b"hi") for a in PAIRS for b in PAIRS),
    )
    yield from numbered(
        "length-twice-apart",
        (
            post(b"Content-Length: " + a, b"X: y", b"content-length: " + b, body=b"hi" + SECOND)
            for a in PAIRS
            for b in PAIRS
        ),
    )
    yield from numbered("length-name", (post(name + b": 2", body=b"hi") for name in NAMES))
    yield from numbered("length-and-name", (post(b"Content-Length: 2", name + b": 3", body=b"hi") for name in NAMES))
    yield from numbered(
        "length-method", (request(m + b" / HTTP/1.1", b"Content-Length: 2", body=b"hi") for m in METHODS)
    )
    yield from numbered("length-method-zero", (request(m + b" / HTTP/1.1", b"Content-Length: 0") for m in METHODS))
    yield from numbered(
        "length-method-chunked",
        (request(m + b" / HTTP/1.1", b"Transfer-Encoding: chunked", body=b"2\r\nhi\r\n0\r\n\r\n") for m in METHODS),
    )
    yield from numbered("length-method-none", (request(m + b" / HTTP/1.1", body=SECOND) for m in METHODS))
    yield from by_byte(
        "length-first-byte", b"POST / HTTP/1.1\r\nHost: shop00\r\nContent-Length: ", b"2\r\n\r\nhi", EVERY
    )
    yield from by_byte(
        "length-last-byte", b"POST / HTTP/1.1\r\nHost: shop00\r\nContent-Length: 2", b"\r\n\r\nhi", EVERY
    )
    for size in (1, 1_000, 65_536, 1_000_000):
        yield Case(f"length-size/{size}", post(b"Content-Length: %d" % size, body=b"b" * size))
        yield Case(f"length-size/{size}-second", post(b"Content-Length: %d" % size, body=b"b" * size + SECOND))
        yield Case(f"length-size/{size}-short", post(b"Content-Length: %d" % (size + 1), body=b"b" * size), leaves=True)
        yield Case(f"length-size/{size}-long", post(b"Content-Length: %d" % size, body=b"b" * (size + 1)))

"""Bodies in chunks: sizes, extensions, line ends, trailers."""

from __future__ import annotations

from collections.abc import Iterator

from tests.proxy.malformed.case import EVERY, INTERESTING, Case, by_byte, chunks, numbered, post

SIZES = (
    b"2", b"02", b"002", b"0" * 14 + b"2", b"0" * 15 + b"2", b"0" * 16 + b"2", b"0" * 17 + b"2", b"0" * 100 + b"2",
    b"0" * 5000 + b"2", b"2 ", b" 2", b"2\t", b"\t2", b"2  ", b"+2", b"-2", b"0x2", b"0X2", b"x2", b"2x", b"2h", b"2g", b"g",
    b"zz", b"", b" ", b"2.0", b"2e0", b"2,2",
    b"2 2", b'"2"', b"2\0", b"\x002", b"2\x0b", b"\x0b2", b"2\x80", b"\xb2", b"2_", b"_2", b"-0", b"+0", b"0x", b"0x0",
    b"2\r", b"\r2", b"2\n", b"\n2", b"3", b"1", b"f", b"F", b"ffffffff", b"100000002", b"100000000", b"7fffffffffffffff",
    b"8000000000000000", b"fffffffffffffffe",
    b"ffffffffffffffff", b"10000000000000000", b"10000000000000002", b"fffffffffffffffff", b"f" * 40, b"-1", b"-2",
    b"4294967298",
)  # fmt: skip
EXTENSIONS = (
    b";", b"; ", b";a", b";a=b", b"; a=b", b" ;a=b", b"\t;a", b";a=", b";=b", b";=", b";;", b";a;b", b';a="b"', b';a="b',
    b';a="b;c"', b';a="\\""', b';a="b\\', b";a b", b";a\tb", b";a\nb", b";a\rb", b";a\r", b";\n", b";\r", b";\0", b";a\0b",
    b";\x80", b";\x7f", b";a=b c", b";a,b", b";a:b",
    b";\nGET /poison HTTP/1.1", b";\n\n", b";\r\r\n", b"\n", b"\r", b";" + b"a" * 100, b";" + b"a" * 1000,
    b";" + b"a" * 16_000, b";" + b"a" * 70_000, b";a=b" * 100, b"a", b",a", b":a", b"=a", b"#a", b"(a)", b" a",
)  # fmt: skip
ENDS = (
    b"",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\r",
    b"\r\r\n",
    b"\n\n",
    b"\r\n\r\n",
    b" \r\n",
    b"x\r\n",
    b"\0\r\n",
    b"\t\r\n",
    b"\x0b\r\n",
    b"\x85",
    b"\r\0\n",
    b"xx",
)
TRAILERS = (
    b"X: a", b"X:", b"X", b":", b": a", b"X : a", b" X: a", b"\tX: a", b"X: a\r\n b", b"X: a\rb", b"X: a\nb", b"X: a\0b",
    b"X: a\x80", b"X\0: a", b"X(: a", b"X: a\nY: b", b"X: a\x7f", b"X: a\x01",
    b"Content-Length: 5", b"Content-Length: 2", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Host: evil",
    b"Host: shop00", b"Connection: close", b"Connection: keep-alive", b"Trailer: X", b"TE: trailers", b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"Authorization: a", b"Cookie: a=b", b"Set-Cookie: a=b", b"Content-Type: a/b", b"Content-Encoding: gzip",
    b"Content-Range: bytes 0-1/2", b"Cache-Control: no-store", b"Max-Forwards: 0", b"Range: bytes=0-1", b"Location: /",
    b"X-Forwarded-For: 1.2.3.4", b"Forwarded: for=a",
    b":path: /admin", b":authority: evil", b"X: a\r\nX: b", b"grpc-status: 0", b"Keep-Alive: 5", b"Proxy-Authorization: a",
    b"Via: a", b"Date: x", b"Age: 1", b"GET /poison HTTP/1.1", b"x_y: a",
)  # fmt: skip
SECOND = b"GET /second HTTP/1.1\r\nHost: shop00\r\n\r\n"
LAST = b"0\r\n\r\n"


def cases() -> Iterator[Case]:
    yield from numbered("chunk-size", (chunks(size, b"\r\nhi\r\n", LAST) for size in SIZES))
    yield from numbered("chunk-size-second", (chunks(size, b"\r\nhi\r\n", LAST, SECOND) for size in SIZES))
    yield from numbered(
        "last-chunk-size", (chunks(b"2\r\nhi\r\n", size.replace(b"2", b"0"), b"\r\n\r\n", SECOND) for size in SIZES)
    )
    yield from numbered("chunk-extension", (chunks(b"2", extension, b"\r\nhi\r\n", LAST) for extension in EXTENSIONS))
    yield from numbered(
        "last-chunk-extension", (chunks(b"2\r\nhi\r\n0", extension, b"\r\n\r\n", SECOND) for extension in EXTENSIONS)
    )
    yield from numbered("chunk-line-end", (chunks(b"2", end, b"hi\r\n", LAST) for end in ENDS))
    yield from numbered("chunk-data-end", (chunks(b"2\r\nhi", end, LAST) for end in ENDS))
    yield from numbered("chunk-last-line-end", (chunks(b"2\r\nhi\r\n0", end, b"\r\n", SECOND) for end in ENDS))
    yield from numbered("chunk-body-end", (chunks(b"2\r\nhi\r\n0\r\n", end, SECOND) for end in ENDS))
    yield from numbered("chunk-before", (chunks(end, b"2\r\nhi\r\n", LAST) for end in ENDS))
    yield from numbered("chunk-all-ends", (chunks(b"2", a, b"hi", b, b"0", a, b) for a in ENDS[1:7] for b in ENDS[1:7]))
    yield from numbered(
        "chunk-data-short",
        (
            chunks(b"3\r\nhi\r\n", LAST),
            chunks(b"5\r\nhi\r\n", LAST),
            chunks(b"1\r\nhi\r\n", LAST),
            chunks(b"9\r\nhi\r\n", LAST, SECOND),
        ),
    )
    yield from numbered("trailer", (chunks(b"2\r\nhi\r\n0\r\n", trailer, b"\r\n\r\n") for trailer in TRAILERS))
    yield from numbered(
        "trailer-second", (chunks(b"2\r\nhi\r\n0\r\n", trailer, b"\r\n\r\n", SECOND) for trailer in TRAILERS)
    )
    yield from numbered(
        "trailer-named",
        (
            post(
                b"Transfer-Encoding: chunked",
                b"Trailer: " + t.partition(b":")[0].strip(b" \t\0"),
                body=b"0\r\n" + t + b"\r\n\r\n",
            )
            for t in TRAILERS[18:]
        ),
    )
    for count in (2, 50, 98, 99, 100, 101, 102, 200, 1_000):
        yield Case(f"trailer-count/{count}", chunks(b"0\r\n", *(b"x%d: a\r\n" % at for at in range(count)), b"\r\n"))
    for size in (1_000, 30_000, 60_000, 61_440, 62_000, 70_000, 200_000):
        yield Case(f"trailer-size/{size}", chunks(b"0\r\nX: ", b"a" * size, b"\r\n\r\n"))
    for count in (10, 1_000, 5_000):
        yield Case(f"chunk-count/{count}", chunks(b"1\r\na\r\n" * count, LAST))
        yield Case(f"chunk-count/extended-{count}", chunks(b"1;abcdefghij\r\na\r\n" * count, LAST))
    yield from by_byte("chunk-first-byte", chunks(), b"2\r\nhi\r\n0\r\n\r\n", EVERY)
    yield from by_byte("chunk-size-byte", chunks(b"2"), b"\r\nhi\r\n0\r\n\r\n", EVERY)
    yield from by_byte("chunk-extension-byte", chunks(b"2;a"), b"b\r\nhi\r\n0\r\n\r\n", EVERY)
    yield from by_byte("chunk-cr-byte", chunks(b"2\r"), b"hi\r\n0\r\n\r\n", INTERESTING)
    yield from by_byte("chunk-data-end-byte", chunks(b"2\r\nhi"), b"\n0\r\n\r\n", INTERESTING)
    yield from by_byte("trailer-name-byte", chunks(b"0\r\nX"), b"Y: a\r\n\r\n", INTERESTING)
    yield from by_byte("trailer-value-byte", chunks(b"0\r\nX: a"), b"b\r\n\r\n", INTERESTING)

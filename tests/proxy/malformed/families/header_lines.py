"""Header lines: what names and values may hold, folds, lines that are none, and how many there may be."""

from __future__ import annotations

from collections.abc import Iterator

from tests.proxy.malformed.case import EVERY, INTERESTING, Case, by_byte, get, numbered, post

LINES = (
    b"X", b"X:", b":", b": a", b":a", b"", b"X :a", b"X : a", b"X\t: a", b" X: a", b"\tX: a", b"X: a\r\n b", b"X: a\r\n\tb",
    b"X: a\r\n ", b"X: a\r\n\t", b"X:\r\n a", b"X: a\r\n  Transfer-Encoding: chunked",
    b"X: a\r\n Content-Length: 5", b"X: a\r\n b\r\n c", b"X: a\r\n\r\n b", b"X: a\n b", b"X: a\r b", b"X: a\rb", b"X: a\nb",
    b"X: a\nY: b", b"X: a\n\nGET /poison HTTP/1.1", b"X: a\0", b"X: \0", b"X\0: a", b"X;: a", b"X=a", b"X a: b",
    b"X: a:b", b"X:: a", b"X: : a", b'X: "a', b'X: "a"', b'X: "a\\"b"', b"X: \\", b"X: a;b,c", b"X:\ta\t", b"X: \xc3\xa4",
    b"X: \xff", b"X-\xc3\xa4: a", b"\xef\xbb\xbfX: a", b"x_y: a", b"_: a", b"-: a", b"x.y: a", b"x/y: a",
    b"x(y): a", b"x@y: a", b"x{y}: a", b"x[y]: a", b"x\\y: a", b'x"y": a', b"x<y>: a", b"x,y: a", b"x?y: a",
    b"x!#$%&'*+-.^_`|~y: a", b":path: /admin", b":method: POST", b":authority: evil", b":scheme: https", b":status: 200",
    b":x: a",
    b"path: /admin", b"GET /poison HTTP/1.1", b"HTTP/1.1 200 OK", b"Content_Length: 5", b"Transfer_Encoding: chunked",
    b"content-length : 5", b"transfer-encoding : chunked", b"\r\nX: a", b"X: a\r\r\nY: b", b"X: a\r\n\rY: b",
)  # fmt: skip
TWICE = (
    b"Cookie", b"X", b"Authorization", b"Content-Type", b"Accept", b"Referer", b"User-Agent", b"If-Match", b"Range", b"Date",
    b"Via", b"Forwarded", b"Expect", b"Upgrade",
    b"Connection", b"Keep-Alive", b"Proxy-Connection", b"TE", b"Trailer", b"Proxy-Authorization", b"Max-Forwards", b"Origin",
    b"Cache-Control",
)  # fmt: skip
WITH = (b"Content-Length: 0\r\n", b"")


def cases() -> Iterator[Case]:
    yield from numbered("header-line", (get(line) for line in LINES))
    yield from numbered(
        "header-line-first", (b"GET / HTTP/1.1\r\n" + line + b"\r\nHost: shop00\r\n\r\n" for line in LINES)
    )
    yield from numbered("header-line-post", (post(b"Content-Length: 2", line, body=b"hi") for line in LINES))
    yield from numbered("header-twice", (get(name + b": a", name + b": b") for name in TWICE))
    yield from numbered("header-empty", (get(name + b":") for name in TWICE))
    yield from numbered(
        "header-spaces",
        (
            get(b"X:" + a + b"v" + b)
            for a in (b"", b" ", b"\t", b"  ", b" \t ")
            for b in (b"", b" ", b"\t", b" \t ", b"\r", b" \r")
        ),
    )
    yield from by_byte("name-byte", b"GET / HTTP/1.1\r\nHost: shop00\r\nX", b"Y: a\r\n\r\n", EVERY)
    yield from by_byte("name-first-byte", b"GET / HTTP/1.1\r\nHost: shop00\r\n", b"Y: a\r\n\r\n", EVERY)
    yield from by_byte("name-last-byte", b"GET / HTTP/1.1\r\nHost: shop00\r\nX", b": a\r\n\r\n", INTERESTING)
    yield from by_byte("value-byte", b"GET / HTTP/1.1\r\nHost: shop00\r\nX: a", b"b\r\n\r\n", EVERY)
    yield from by_byte("value-first-byte", b"GET / HTTP/1.1\r\nHost: shop00\r\nX:", b"b\r\n\r\n", INTERESTING)
    yield from by_byte("value-last-byte", b"GET / HTTP/1.1\r\nHost: shop00\r\nX: a", b"\r\n\r\n", INTERESTING)
    yield from by_byte("value-only-byte", b"GET / HTTP/1.1\r\nHost: shop00\r\nX:", b"\r\n\r\n", INTERESTING)
    yield from by_byte("head-end-byte", b"GET / HTTP/1.1\r\nHost: shop00\r\n", b"\r\n", INTERESTING)
    yield from by_byte(
        "head-end-lf-byte",
        b"GET / HTTP/1.1\r\nHost: shop00\r\n\r",
        b"GET /poison HTTP/1.1\r\nHost: shop00\r\n\r\n",
        INTERESTING,
    )
    yield from _many()


def _many() -> Iterator[Case]:
    for count in (50, 90, 97, 98, 99, 100, 101, 102, 103, 110, 200, 1_000, 5_000):
        yield Case(f"header-count/different-{count}", get(*(b"x%d: a" % at for at in range(count))))
        yield Case(f"header-count/same-{count}", get(*(b"x: a" for _ in range(count))))
        yield Case(f"header-count/cookies-{count}", get(*(b"cookie: a=%d" % at for at in range(count))))
        yield Case(f"header-count/empty-{count}", get(*(b"x%d:" % at for at in range(count))))
    for size in (
        1_000,
        16_384,
        32_768,
        50_000,
        60_000,
        61_000,
        61_200,
        61_300,
        61_350,
        61_380,
        61_400,
        61_440,
        61_500,
        62_000,
        65_535,
        65_536,
        70_000,
        131_072,
        300_000,
    ):
        yield Case(f"head-size/value-{size}", get(b"X: " + b"a" * size))
        yield Case(f"head-size/name-{size}", get(b"X" * size + b": a"))
        yield Case(f"head-size/spaces-{size}", get(b"X:" + b" " * size + b"a"))
        yield Case(f"head-size/spaces-behind-{size}", get(b"X: a" + b" " * size))
        yield Case(f"head-size/no-colon-{size}", get(b"X" * size))
        yield Case(f"head-size/lines-{size}", get(*(b"x%02d: %b" % (at, b"a" * (size // 50)) for at in range(50))))
        yield Case(f"head-size/post-{size}", post(b"Content-Length: 2", b"X: " + b"a" * size, body=b"hi"))
        yield Case(f"head-size/empty-lines-{size}", b"\r\n" * (size // 2) + get())

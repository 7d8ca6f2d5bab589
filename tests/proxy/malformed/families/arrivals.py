"""How bytes arrive: byte by byte, cut in odd places, or not to the end."""

from __future__ import annotations

from collections.abc import Iterator

from tests.proxy.malformed.case import Case, chunks, get, post, request

SECOND = b"GET /second HTTP/1.1\r\nHost: shop00\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
WHOLE = {
    "get": get(b"X: a"),
    "head": request(b"HEAD / HTTP/1.1"),
    "post": post(b"Content-Length: 2", body=b"hi"),
    "chunks": chunks(b"2\r\nhi\r\n0\r\n\r\n"),
    "trailers": chunks(b"2;a=b\r\nhi\r\n0\r\nX: y\r\n\r\n"),
    "pipeline": get() + SECOND,
    "after-body": post(b"Content-Length: 2", body=b"hi") + SECOND,
    "after-chunks": chunks(b"2\r\nhi\r\n0\r\n\r\n") + SECOND,
    "absolute": request(b"GET http://shop00/a HTTP/1.1"),
    "expect": post(b"Expect: 100-continue", b"Content-Length: 2", body=b"hi"),
    "empty-line": b"\r\n" + get(),
    "cl-te": post(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n") + SECOND,
    "te-cl": post(CHUNKED, b"Content-Length: 3", body=b"0\r\n\r\n") + SECOND,
    "two-hosts": get(b"Host: shop00"),
    "fold": get(b"X: a\r\n b"),
    "bare-lf": get(b"X: a\nY: b"),
    "bare-cr": get(b"X: a\rb"),
    "nul": get(b"X: a\0b"),
    "bad-name": get(b"X : a"),
    "bad-chunk": chunks(b"2\r\nhixx0\r\n\r\n"),
    "bad-size": chunks(b"0x2\r\nhi\r\n0\r\n\r\n"),
    "chunk-lf": chunks(b"2\nhi\n0\n\n"),
    "lf": b"GET / HTTP/1.1\nHost: shop00\n\n",
    "1.0": request(b"GET / HTTP/1.0"),
    "0.9": b"GET /\r\n\r\n",
    "fragment": get(target=b"/a#b"),
    "upgrade": get(b"Connection: Upgrade", b"Upgrade: websocket") + SECOND,
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "http2": b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
}
STEP = 3


def cases() -> Iterator[Case]:
    for name, data in WHOLE.items():
        yield Case(f"by-byte/{name}", data, tuple(range(1, len(data))))
        yield Case(f"by-two/{name}", data, tuple(range(2, len(data), 2)))
        yield Case(f"by-seven/{name}", data, tuple(range(7, len(data), 7)))
        yield Case(f"whole/{name}", data)
        line_ends = tuple(
            at for at in range(1, len(data)) if data[at - 1 : at + 1] == b"\r\n" or data[at - 2 : at] == b"\r\n"
        )
        yield Case(f"by-line/{name}", data, line_ends)
        for at in range(1, len(data), STEP):
            yield Case(f"in-two/{name}-{at}", data, (at,))
    # what is cut there is a whole request: when the client leaves behind it is a race that nobody can record
    for name in ("get", "post", "chunks", "trailers"):
        data = WHOLE[name]
        for at in range(1, len(data) - 1, 2):
            yield Case(f"leaves/{name}-{at}", data[:at], leaves=True)
    yield Case("leaves/nothing", b"", leaves=True)
    for name in ("get", "post", "trailers"):
        data = WHOLE[name]
        for at in range(1, len(data) - 1, 11):
            yield Case(f"stops/{name}-{at}", data[:at])

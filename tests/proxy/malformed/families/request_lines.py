"""The request line: methods, spaces, versions, line ends, and what stands before it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.proxy.malformed.case import EVERY, INTERESTING, SHOP, Case, by_byte, get, numbered, request

H = b"Host: " + SHOP
METHODS = b"""GET HEAD POST PUT PATCH DELETE OPTIONS TRACE PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK SEARCH REPORT
PURGE LINK UNLINK BIND REBIND UNBIND ACL CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE SOURCE MKACTIVITY
MKCALENDAR QUERY PRI FOO get Get gET FOO-BAR F.O G_ET G*T !#$%&'*+-.^_`|~ DESCRIBE ANNOUNCE SETUP PLAY PAUSE TEARDOWN
GET_PARAMETER SET_PARAMETER REDIRECT RECORD FLUSH""".split()
VERSIONS = b"""HTTP/1.1 HTTP/1.0 HTTP/0.9 HTTP/1.2 HTTP/1.9 HTTP/2 HTTP/2.0 HTTP/3 HTTP/3.0 HTTP/0.0 HTTP/9.9 HTTP/10.1
HTTP/1.10 HTTP/1.11 HTTP/11.1 HTTP/01.1 HTTP/1.01 HTTP/1 HTTP/1. HTTP/.1 HTTP/ HTTP 1.1 http/1.1 Http/1.1 HTTPS/1.1
HTP/1.1 XHTTP/1.1 HTTP/1,1 HTTP/1.1x HTTP/x1.1 HTTP/+1.1 HTTP/-1.1 HTTP\\1.1 HTTP//1.1 HTTP/1..1 HTTP/1.1.1 HTTP/a.b
RTSP/1.0 ICE/1.0 SIP/2.0 HTTP/1.1;x""".split()
SPACES = (b"", b" ", b"  ", b"\t", b"\x0b", b"\x0c", b"\xa0", b" \t", b"\r", b"\0")
BEFORE = (
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\n\n",
    b"\r",
    b" ",
    b"\t",
    b"\0",
    b"x",
    b":",
    b"\xef\xbb\xbf",
    b"\r\n ",
    b"\r\n" * 20,
    b"\x16\x03\x01",
)
LINES = (
    b"", b" ", b"GET", b"GET ", b"GET /", b"GET / ", b"/ HTTP/1.1", b" / HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1 200 OK",
    b"GET / HTTP/1.1 x", b"GET / HTTP/1.1 HTTP/1.1",
    b"GET / HTTP/1.0 HTTP/1.1", b"GET / / HTTP/1.1", b"GET GET / HTTP/1.1", b"GET:/ HTTP/1.1", b"GET/ HTTP/1.1",
    b"GET\\ / HTTP/1.1", b"GET /HTTP/1.1", b"GET /\x00 HTTP/1.1",
    b'"GET" / HTTP/1.1', b"G" * 1000 + b" / HTTP/1.1", b"A" * 70_000 + b" / HTTP/1.1", b"GET / HTTP/1.1\rX: y",
    b"GET / HTTP/1.1\x00", b"GET / HTTP/1.1\nX: y",
    b"PRI * HTTP/2.0", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\t", b"GET / HTTP/1.1 ", b"GET / HTTP/1.1  ",
    b"GET : HTTP/1.1", b": / HTTP/1.1",
)  # fmt: skip


def cases() -> Iterator[Case]:
    yield from numbered("method", (request(method + b" / HTTP/1.1") for method in METHODS))
    yield from numbered(
        "method-length", (request(m + b" / HTTP/1.1", b"Content-Length: 2", body=b"hi") for m in METHODS[:40])
    )
    yield from by_byte("method-byte", b"GE", b"T / HTTP/1.1\r\n" + H + b"\r\n\r\n", EVERY)
    yield from by_byte("line-start-byte", b"", get(), EVERY)
    yield from by_byte("line-end-byte", b"GET / HTTP/1.1", b"\r\n" + H + b"\r\n\r\n", EVERY)
    yield from by_byte("version-byte", b"GET / HTTP/1", b"1\r\n" + H + b"\r\n\r\n", EVERY)
    yield from numbered("version", (request(b"GET / " + version) for version in VERSIONS))
    yield from numbered(
        "version-chunked", (request(b"POST / " + v, b"Transfer-Encoding: chunked", body=b"0\r\n\r\n") for v in VERSIONS)
    )
    yield from numbered(
        "version-length", (request(b"POST / " + v, b"Content-Length: 2", body=b"hi") for v in VERSIONS[:12])
    )
    yield from numbered(
        "version-keep-alive", (request(b"GET / " + v, b"Connection: keep-alive") for v in VERSIONS[:12])
    )
    yield from numbered("version-no-host", (request(b"GET / " + version, host=None) for version in VERSIONS))
    yield from numbered(
        "spaces", (b"GET" + a + b"/" + b + b"HTTP/1.1\r\n" + H + b"\r\n\r\n" for a in SPACES for b in SPACES)
    )
    yield from numbered("before", (before + get() for before in BEFORE))
    yield from numbered("between", (get() + before + get(target=b"/second") for before in BEFORE))
    yield from numbered("line", (request(line) for line in LINES))
    for name, end in (
        ("lf", b"\n"),
        ("cr", b"\r"),
        ("lfcr", b"\n\r"),
        ("crcrlf", b"\r\r\n"),
        ("nel", b"\x85"),
        ("crnul", b"\r\0\n"),
    ):
        yield Case(f"line-ends/all-{name}", b"GET / HTTP/1.1" + end + H + end + end)
        yield Case(f"line-ends/first-{name}", b"GET / HTTP/1.1" + end + H + b"\r\n\r\n")
        yield Case(f"line-ends/second-{name}", b"GET / HTTP/1.1\r\n" + H + end + b"\r\n")
        yield Case(f"line-ends/last-{name}", b"GET / HTTP/1.1\r\n" + H + b"\r\n" + end)
        yield Case(f"line-ends/header-{name}", get(b"X: a" + end + b"Y: b"))
        yield Case(f"line-ends/smuggled-{name}", get(b"X: a" + end + b"Transfer-Encoding: chunked"))
        yield Case(f"line-ends/empty-{name}", get(b"X: a" + end + end + b"GET /poison HTTP/1.1"))
    yield from by_byte("http09-byte", b"GET /", b"\r\n\r\n", INTERESTING)

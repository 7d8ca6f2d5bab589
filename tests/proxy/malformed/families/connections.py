"""Headers that are of one connection: Connection and what it names, Keep-Alive, TE, Upgrade, Expect."""

from __future__ import annotations

from collections.abc import Iterator

from tests.proxy.malformed.case import EVERY, Case, by_byte, get, numbered, post, request

VALUES = (
    b"close", b"Close", b"CLOSE", b"keep-alive", b"Keep-Alive", b"close, keep-alive", b"keep-alive, close", b"close,close",
    b"", b" ", b",", b",,", b",close", b"close,", b"closed", b"xclose", b"clos e", b"close;a", b'"close"', b"close\x0b",
    b"upgrade", b"Upgrade", b"upgrade, close", b"keep-alive, upgrade",
    b"host", b"Host", b"close, host", b"host, close", b"x", b"X", b"x, y", b"x-a, x-b", b"X , close", b"\tx\t",
    b"content-length", b"Content-Length", b"close, content-length", b"transfer-encoding", b"Transfer-Encoding, close", b"te",
    b"TE", b"te, close", b"te, x", b"TE, trailers", b"te, te", b"trailer", b"trailers",
    b"connection", b"close, connection", b"keep-alive, keep-alive", b"cookie", b"authorization", b"x-forwarded-for",
    b"x-forwarded-proto", b"x-forwarded-host", b"x-request-id", b"x-envoy-attempt-count", b":path", b":authority",
    b":method", b"path", b"expect", b"expect, close", b"http2-settings", b"proxy-connection",
    b"date", b"via", b"user-agent", b"accept", b"content-type", b"content-encoding", b"if-match", b"max-forwards",
    b"traceparent", b"x\0", b"x y", b"x;y", b"\x80", b"x\x7f", b"x\ty", b"a" * 1000, b"a," * 50, b"a," * 500, b"x-%d," * 20,
)  # fmt: skip
WITH = (
    b"X: a",
    b"Y: b",
    b"x-a: 1",
    b"x-b: 2",
    b"Cookie: c=d",
    b"Authorization: e",
    b"TE: trailers",
    b"Keep-Alive: timeout=5",
    b"Date: f",
    b"Via: g",
    b"User-Agent: h",
    b"Accept: i",
    b"If-Match: j",
)
KEEP_ALIVES = (b"timeout=5", b"timeout=5, max=100", b"", b"x", b"timeout=-1", b"300")
TES = (
    b"trailers",
    b"Trailers",
    b"trailers, gzip",
    b"gzip",
    b"gzip;q=0.5, trailers",
    b"chunked",
    b"",
    b",",
    b"trailers;q=1",
    b"deflate",
    b" trailers ",
    b"trailers, trailers",
    b"xtrailers",
    b"trailers\x0b",
    b"identity",
)
EXPECTATIONS = (
    b"100-continue", b"100-Continue", b"100-CONTINUE", b" 100-continue ", b"100-continue, 100-continue",
    b"100-continue, foo", b"foo, 100-continue", b"foo", b"", b"100", b"200-ok", b"100-continue;a=b", b"100-continu",
    b"100-continuee", b"100 continue", b'"100-continue"', b"100-continue\x0b", b"101-continue",
)  # fmt: skip
UPGRADES = (
    b"websocket", b"WebSocket", b"WEBSOCKET", b"h2c", b"H2C", b"h2", b"websocket, h2c", b"h2c, websocket", b"foo", b"",
    b"foo, websocket", b"websocket/13", b"TLS/1.0", b"HTTP/2.0", b"http/1.1", b"connect-udp", b"CONNECT", b"websocket;a",
    b"\x0bwebsocket", b"websocket\x0b", b"websocket,websocket", b"web socket", b"spdy/3.1", b"connect-ip", b"raw",
)  # fmt: skip
KEY = (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
SECOND = b"GET /second HTTP/1.1\r\nHost: shop00\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"


def cases() -> Iterator[Case]:
    yield from numbered("connection", (get(b"Connection: " + value, *WITH) for value in VALUES))
    yield from numbered("connection-second", (get(b"Connection: " + value) + SECOND for value in VALUES))
    yield from numbered(
        "connection-length", (post(b"Connection: " + value, b"Content-Length: 2", body=b"hi") for value in VALUES)
    )
    yield from numbered(
        "connection-chunked", (post(b"Connection: " + value, CHUNKED, body=b"2\r\nhi\r\n0\r\n\r\n") for value in VALUES)
    )
    yield from numbered(
        "connection-1.0", (request(b"GET / HTTP/1.0", b"Connection: " + value) for value in VALUES[:24])
    )
    yield from numbered("connection-te", (get(b"Connection: " + value, b"TE: trailers") for value in VALUES[:50]))
    yield from numbered(
        "connection-twice",
        (
            get(b"Connection: " + a, b"Connection: " + b, b"X: a", b"TE: trailers")
            for a in (*VALUES[:8], b"host", b"x", b"te")
            for b in (b"close", b"x", b"host", b"te")
        ),
    )
    yield from by_byte(
        "connection-byte", b"GET / HTTP/1.1\r\nHost: shop00\r\nX: a\r\nConnection: clo", b"se\r\n\r\n", EVERY
    )
    yield from numbered("proxy-connection", (get(b"Proxy-Connection: " + value) + SECOND for value in VALUES[:30]))
    yield from numbered("keep-alive", (get(b"Keep-Alive: " + value) for value in KEEP_ALIVES))
    yield from numbered("te", (get(b"TE: " + value) for value in TES))
    yield from numbered("te-named", (get(b"TE: " + value, b"Connection: TE") for value in TES))
    yield from numbered("te-twice", (get(b"TE: " + a, b"TE: " + b) for a in TES[:5] for b in TES[:5]))
    yield from _expectations()
    yield from _upgrades()


def _expectations() -> Iterator[Case]:
    yield from numbered("expect", (get(b"Expect: " + value) for value in EXPECTATIONS))
    yield from numbered(
        "expect-length", (post(b"Expect: " + value, b"Content-Length: 2", body=b"hi") for value in EXPECTATIONS)
    )
    yield from numbered(
        "expect-chunked", (post(b"Expect: " + value, CHUNKED, body=b"2\r\nhi\r\n0\r\n\r\n") for value in EXPECTATIONS)
    )
    yield from numbered(
        "expect-none", (post(b"Expect: " + value, b"Content-Length: 0") + SECOND for value in EXPECTATIONS)
    )
    yield from numbered(
        "expect-bad",
        (
            post(b"Expect: 100-continue", b"Content-Length: " + value, body=b"hi")
            for value in (b"a", b"2, 3", b"-1", b"")
        ),
    )
    yield from numbered(
        "expect-unrouted",
        (
            request(b"POST / HTTP/1.1", b"Expect: " + value, b"Content-Length: 2", host=b"Host: evil", body=b"hi")
            for value in EXPECTATIONS[:4]
        ),
    )
    yield from numbered(
        "expect-twice",
        (
            post(b"Expect: " + a, b"Expect: " + b, b"Content-Length: 2", body=b"hi")
            for a in (*EXPECTATIONS[:2], b"foo")
            for b in (*EXPECTATIONS[:2], b"foo")
        ),
    )
    yield from numbered(
        "expect-1.0",
        (
            request(b"POST / HTTP/1.0", b"Expect: " + value, b"Content-Length: 2", body=b"hi")
            for value in EXPECTATIONS[:4]
        ),
    )


def _upgrades() -> Iterator[Case]:
    upgrade = b"Connection: Upgrade"
    yield from numbered("upgrade", (get(upgrade, b"Upgrade: " + value) for value in UPGRADES))
    yield from numbered("upgrade-key", (get(upgrade, b"Upgrade: " + value, *KEY) for value in UPGRADES))
    yield from numbered("upgrade-not-named", (get(b"Upgrade: " + value) for value in UPGRADES))
    yield from numbered(
        "upgrade-named-oddly",
        (
            get(b"Connection: " + named, b"Upgrade: websocket", *KEY)
            for named in (
                b"close",
                b"close, upgrade",
                b"keep-alive, Upgrade",
                b"Upgrade, host",
                b"upgrade, x",
                b"",
                b"xupgrade",
                b"upgrade\x0b",
            )
        ),
    )
    yield from numbered(
        "upgrade-post", (post(upgrade, b"Upgrade: " + value, b"Content-Length: 2", body=b"hi") for value in UPGRADES)
    )
    yield from numbered(
        "upgrade-chunked",
        (post(upgrade, b"Upgrade: " + value, CHUNKED, body=b"2\r\nhi\r\n0\r\n\r\n") for value in UPGRADES),
    )
    yield from numbered("upgrade-second", (get(upgrade, b"Upgrade: " + value) + SECOND for value in UPGRADES))
    yield from numbered(
        "upgrade-get-length",
        (get(upgrade, b"Upgrade: " + value, b"Content-Length: 2", body=b"hi") for value in UPGRADES[:12]),
    )
    yield from numbered(
        "upgrade-twice", (get(upgrade, b"Upgrade: " + a, b"Upgrade: " + b) for a in UPGRADES[:4] for b in UPGRADES[:4])
    )
    yield from numbered(
        "upgrade-switch", (get(upgrade, b"Upgrade: " + value, *KEY, target=b"/switch") for value in UPGRADES[:6])
    )
    yield from numbered(
        "upgrade-switch-early",
        (get(upgrade, b"Upgrade: " + value, *KEY, target=b"/switch") + b"early" for value in UPGRADES[:6]),
    )
    yield from numbered(
        "upgrade-1.0", (request(b"GET / HTTP/1.0", upgrade, b"Upgrade: " + value) for value in UPGRADES[:4])
    )
    settings = b"HTTP2-Settings: AAMAAABkAAQAAP__"
    for at, lines in enumerate(
        (
            (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", settings),
            (b"Connection: Upgrade", b"Upgrade: h2c", settings),
            (b"Connection: HTTP2-Settings", settings),
            (b"Upgrade: h2c", settings),
            (settings,),
            (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", settings, settings),
            (b"Connection: upgrade,http2-settings", b"Upgrade: H2C", b"HTTP2-Settings:"),
            (b"Connection: Upgrade, HTTP2-Settings, host", b"Upgrade: h2c", settings),
        )
    ):
        yield Case(f"h2c/get-{at}", get(*lines))
        yield Case(f"h2c/post-{at}", post(*lines, b"Content-Length: 2", body=b"hi"))
        yield Case(f"h2c/poison-{at}", get(*lines) + b"GET /poison HTTP/1.1\r\nHost: shop00\r\n\r\n")
    yield from numbered(
        "connect",
        (
            request(b"CONNECT " + target + b" HTTP/1.1", *more) + tail
            for target in (b"shop00:80", b"shop00", b"/", b"*", b"http://shop00/")
            for more in ((), (b"Content-Length: 2",), (CHUNKED,))
            for tail in (b"", b"hi", SECOND)
        ),
    )

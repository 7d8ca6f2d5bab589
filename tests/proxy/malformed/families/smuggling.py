"""Requests whose end two readers may see in two places, with a second request behind them that nobody should get."""

from __future__ import annotations

from collections.abc import Iterator

from tests.proxy.malformed.case import Case, get, numbered, post, request

POISON = b"GET /poison HTTP/1.1\r\nHost: shop00\r\n\r\n"
OPEN_POISON = b"GET /poison HTTP/1.1\r\nX: "
CHUNKED = b"Transfer-Encoding: chunked"
LAST = b"0\r\n\r\n"
HIDDEN_CODINGS = (
    CHUNKED, b"Transfer-Encoding : chunked", b"Transfer-Encoding:\tchunked", b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: xchunked", b" Transfer-Encoding: chunked", b"X: a\r\n Transfer-Encoding: chunked",
    b"X: a\nTransfer-Encoding: chunked", b"X: a\rTransfer-Encoding: chunked",
    b"Transfer-Encoding\r\n: chunked", b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding:\n chunked",
    b"Transfer_Encoding: chunked", b"transfer-encoding: chunked", b"TRANSFER-ENCODING: CHUNKED",
    b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: identity, chunked", b"Transfer-Encoding: 'chunked'",
    b'Transfer-Encoding: "chunked"', b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked", b"Transfer-Encoding:chunked", b"Transfer-Encoding: chunk",
    b"Transfer-Encoding: chunked\0", b"Transfer-Encoding\0: chunked", b"Transfer-Encoding: \xffchunked",
    b"\0Transfer-Encoding: chunked", b"Content-Encoding: chunked", b"TE: chunked",
    b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", b"Connection: close\r\nTransfer-Encoding: chunked",
    b"Upgrade: h2c\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked",
)  # fmt: skip
HIDDEN_LENGTHS = (
    b"Content-Length: %d", b"Content-Length : %d", b"Content-Length:\t%d", b"Content-Length:\x0b%d", b" Content-Length: %d",
    b"X: a\r\n Content-Length: %d", b"X: a\nContent-Length: %d", b"X: a\rContent-Length: %d", b"Content-Length\r\n: %d",
    b"Content-Length:\r\n %d", b"Content_Length: %d", b"content-length: %d",
    b"Content-Length: +%d", b"Content-Length: 0%d", b"Content-Length: %d, 0", b"Content-Length: 0, %d",
    b"Content-Length: %d\r\nContent-Length: 0", b"Content-Length: 0\r\nContent-Length: %d", b"Content-Length: %d\0",
    b"Content-Length\0: %d", b"Content-Length: %d ;", b"Content-Length: 0x%x", b"Content-Length: \xff%d",
    b"Connection: Content-Length\r\nContent-Length: %d", b"Expect: 100-continue\r\nContent-Length: %d",
    b"Expect: y\r\nContent-Length: %d", b"Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: %d",
)  # fmt: skip
LINES = (
    b"GET / HTTP/1.1",
    b"HEAD / HTTP/1.1",
    b"POST / HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"DELETE / HTTP/1.1",
    b"CONNECT shop00:80 HTTP/1.1",
    b"GET / HTTP/1.0",
    b"POST / HTTP/1.0",
    b"GET http://shop00/ HTTP/1.1",
    b"TRACE / HTTP/1.1",
    b"GET /nowhere#x HTTP/1.1",
)


def cases() -> Iterator[Case]:
    yield from _two_lengths()
    yield from _no_length()
    yield from _pipelines()


def _two_lengths() -> Iterator[Case]:
    for name, tail in (("whole", POISON), ("open", OPEN_POISON)):
        body = LAST + tail
        yield from numbered(
            f"cl-te-{name}", (post(b"Content-Length: %d" % len(body), hidden, body=body) for hidden in HIDDEN_CODINGS)
        )
        yield from numbered(
            f"te-cl-{name}",
            (
                post(hidden, b"Content-Length: 4", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(tail), tail))
                for hidden in HIDDEN_CODINGS
            ),
        )
        yield from numbered(f"te-te-{name}", (post(CHUNKED, hidden, body=body) for hidden in HIDDEN_CODINGS))
        yield from numbered(f"te-te-first-{name}", (post(hidden, CHUNKED, body=body) for hidden in HIDDEN_CODINGS))
        yield from numbered(f"te-0-{name}", (post(hidden, body=body) for hidden in HIDDEN_CODINGS))
        yield from numbered(
            f"cl-0-{name}",
            (
                post(hidden.replace(b"%d", b"%d" % len(tail)).replace(b"%x", b"%x" % len(tail)), body=tail)
                for hidden in HIDDEN_LENGTHS
            ),
        )
        yield from numbered(
            f"cl-cl-{name}",
            (
                post(
                    b"Content-Length: 0",
                    h.replace(b"%d", b"%d" % len(tail)).replace(b"%x", b"%x" % len(tail)),
                    body=tail,
                )
                for h in HIDDEN_LENGTHS
            ),
        )
        yield from numbered(
            f"cl-get-{name}",
            (
                get(hidden.replace(b"%d", b"%d" % len(tail)).replace(b"%x", b"%x" % len(tail)), body=tail)
                for hidden in HIDDEN_LENGTHS
            ),
        )
        yield from numbered(f"te-get-{name}", (get(hidden, body=body) for hidden in HIDDEN_CODINGS))
        yield from numbered(
            f"cl-te-hidden-{name}",
            (
                post(h.replace(b"%d", b"%d" % len(body)).replace(b"%x", b"%x" % len(body)), CHUNKED, body=body)
                for h in HIDDEN_LENGTHS
            ),
        )


def _no_length() -> Iterator[Case]:
    for name, tail in (
        ("whole", POISON),
        ("open", OPEN_POISON),
        ("crlf", b"\r\n" + POISON),
        ("lf", b"\n" + POISON),
        ("two", POISON + POISON),
    ):
        yield from numbered(f"tail-{name}", (request(line) + tail for line in LINES))
        yield from numbered(
            f"tail-length-{name}", (request(line, b"Content-Length: %d" % len(tail)) + tail for line in LINES)
        )
        yield from numbered(
            f"tail-chunked-{name}",
            (request(line, CHUNKED) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(tail), tail) for line in LINES),
        )
        yield from numbered(f"tail-close-{name}", (request(line, b"Connection: close") + tail for line in LINES))
        yield from numbered(
            f"tail-upgrade-{name}",
            (request(line, b"Connection: Upgrade", b"Upgrade: websocket") + tail for line in LINES),
        )
        yield from numbered(
            f"tail-expect-{name}",
            (request(line, b"Expect: 100-continue", b"Content-Length: %d" % len(tail)) + tail for line in LINES),
        )


def _pipelines() -> Iterator[Case]:
    bad = (
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET\r\n\r\n",
        b"\0",
        get(b"X : a"),
        get(b"Host: evil"),
        post(b"Content-Length: a"),
        post(CHUNKED, body=b"zz\r\n"),
        request(b"GET / HTTP/1.1", host=None),
        get(target=b"/#a"),
        b"GET / HTTP/1.1\r\nHost: evil\r\n\r\n",
        get(b"X: " + b"a" * 70_000),
    )
    for at, second in enumerate(bad):
        yield Case(f"pipeline/bad-second-{at}", get(target=b"/first") + second)
        yield Case(f"pipeline/bad-between-{at}", get(target=b"/first") + second + POISON)
        yield Case(f"pipeline/bad-first-{at}", second + POISON)
        yield Case(f"pipeline/bad-after-body-{at}", post(b"Content-Length: 2", body=b"hi") + second + POISON)
        yield Case(f"pipeline/bad-after-chunks-{at}", post(CHUNKED, body=b"2\r\nhi\r\n0\r\n\r\n") + second + POISON)
    for count in (2, 3, 5, 12):
        yield Case(f"pipeline/gets-{count}", b"".join(get(target=b"/%d" % at) for at in range(count)))
        yield Case(
            f"pipeline/posts-{count}",
            b"".join(post(b"Content-Length: 2", b"N: %d" % at, body=b"hi") for at in range(count)),
        )
        yield Case(
            f"pipeline/chunks-{count}",
            b"".join(post(CHUNKED, b"N: %d" % at, body=b"2\r\nhi\r\n0\r\n\r\n") for at in range(count)),
        )
        yield Case(f"pipeline/heads-{count}", b"".join(request(b"HEAD /%d HTTP/1.1" % at) for at in range(count)))
        yield Case(
            f"pipeline/close-in-the-middle-{count}",
            b"".join(
                get(*([b"Connection: close"] if at == count // 2 else []), target=b"/%d" % at) for at in range(count)
            ),
        )

"""Two or three oddities in one request, drawn by a fixed seed: what one of them hides the other may show."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.proxy.malformed.case import Case

LINES = (
    b"GET / HTTP/1.1",
    b"POST / HTTP/1.1",
    b"POST /a/../b HTTP/1.1",
    b"GET //a HTTP/1.1",
    b"HEAD / HTTP/1.1",
    b"PUT / HTTP/1.1",
    b"POST http://shop00/a HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"POST / HTTP/1.0",
    b"GET /a#b HTTP/1.1",
    b"FOO / HTTP/1.1",
    b"GET /%2e%2e HTTP/1.1",
)
HOSTS = (
    b"Host: shop00",
    b"host:shop00",
    b"Host: shop00:80",
    b"HOST:\tshop00 ",
    b"Host: SHOP00",
    b"Host: shop00\r\nHost: shop00",
    b"Host: evil",
    b"Host:",
)
LENGTHS = (
    b"",
    b"Content-Length: 2",
    b"content-length:2",
    b"Content-Length: 02",
    b"Content-Length: 2\r\nContent-Length: 2",
    b"Content-Length: +2",
    b"Content-Length: 12",
    b"Content-Length: 0",
    b"Content-Length: 2,2",
)
CODINGS = (
    b"",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding:CHUNKED",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding : chunked",
)
OTHERS = (
    b"", b"", b"X: a", b"X:", b"X: a\r\n b", b"X : a", b"X: a\x01b", b"X: \x80", b"x_y: z", b"Connection: close",
    b"Connection: keep-alive, X\r\nX: a", b"Connection: host", b"Connection: Upgrade\r\nUpgrade: websocket",
    b"Expect: 100-continue", b"TE: trailers", b"Trailer: X", b"Cookie: a\r\nCookie: b",
    b"Connection: transfer-encoding", b"Connection: content-length", b"Keep-Alive: 5", b"Proxy-Connection: close",
    b"X: a\rb", b"X: a\nb", b"Accept-Encoding: gzip, chunked", b"Max-Forwards: 0",
)  # fmt: skip
BODIES = (
    b"",
    b"hi",
    b"2\r\nhi\r\n0\r\n\r\n",
    b"0\r\n\r\n",
    b"2;a\r\nhi\r\n0\r\nX: y\r\n\r\n",
    b"2\r\nhi\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: shop00\r\n\r\n",
    b"hiGET /second HTTP/1.1\r\nHost: shop00\r\n\r\n",
    b"GET /second HTTP/1.1\r\nHost: shop00\r\n\r\n",
    b"2\nhi\n0\n\n",
)
COUNT = 1_500


def cases() -> Iterator[Case]:
    rng = random.Random(40_56)
    for at in range(COUNT):
        yield drawn(rng, f"mixed/{at}")


def drawn(rng: random.Random, name: str) -> Case:
    """One case."""
    odd = rng.sample(range(5), k=rng.randint(1, 3))
    line, host, length, coding = (
        rng.choice(many) if n in odd else many[0] for n, many in enumerate((LINES, HOSTS, LENGTHS, CODINGS))
    )
    headers = [host, length, coding, *(rng.choices(OTHERS, k=2) if 4 in odd else ())]
    if rng.random() < 0.3:
        rng.shuffle(headers)
    body = rng.choice(BODIES if length or coding else BODIES[:1] + BODIES[-2:-1])
    data = b"\r\n".join([line, *(header for header in headers if header), b"", body])
    cuts = tuple(sorted(rng.sample(range(1, len(data)), k=2))) if rng.random() < 0.2 else ()
    return Case(name, data, cuts)

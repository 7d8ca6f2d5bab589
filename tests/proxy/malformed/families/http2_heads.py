"""Requests over HTTP/2 whose fields could become something else once HTTP/1.1 writes them, or that no request has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hpack import Encoder

from tests.proxy.malformed.case import EVERY, INTERESTING, SHOP, Case
from tests.proxy.malformed.families import (
    codings,
    connections,
    header_lines,
    hosts,
    lengths,
    paths,
    request_lines,
    targets,
)

Field = tuple[bytes, bytes]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, CONTINUATION = 0, 1, 4, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
LARGEST = 16_384
BASE: tuple[Field, ...] = ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", SHOP), (b":path", b"/"))
POST: tuple[Field, ...] = ((b":method", b"POST"), *BASE[1:])
SCHEMES = (
    b"http",
    b"https",
    b"HTTP",
    b"Http",
    b"ws",
    b"ftp",
    b"",
    b"httpx",
    b"http:",
    b"ht tp",
    b"1http",
    b"http\x00",
    b"\x80",
)
SPECIFIC = (
    (b"connection", b"close"), (b"connection", b"keep-alive"), (b"connection", b"x"), (b"keep-alive", b"5"),
    (b"proxy-connection", b"close"), (b"transfer-encoding", b"chunked"),
    (b"transfer-encoding", b"identity"), (b"upgrade", b"websocket"), (b"upgrade", b"h2c"), (b"http2-settings", b"AAMA"),
    (b"te", b"trailers"), (b"te", b"gzip"), (b"te", b""), (b"te", b"Trailers"),
    (b"te", b"trailers, gzip"), (b"te", b"trailers;q=1"), (b"trailer", b"x"), (b"expect", b"100-continue"),
    (b"expect", b"foo"), (b"expect", b""), (b"content-encoding", b"gzip"),
)  # fmt: skip


NAMES = (b"x", b":x", b"X", b"x y", b"", b"host", b"content-length", b"cookie", b"x_y", b"grpc-status")
TRAILERS = (*((name, b"a") for name in NAMES), (b"x", b"a\r\nb"), (b"x", b"a\0"), (b"content-length", b"5"))


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def head(fields: Iterable[Field], flags: int = END_STREAM, encoder: Encoder | None = None) -> bytes:
    """HEADERS of stream 1, and CONTINUATION as needed."""
    block = (encoder or Encoder()).encode(list(fields), huffman=False)
    pieces = [block[at : at + LARGEST] for at in range(0, len(block), LARGEST)] or [b""]
    last = len(pieces) - 1
    return b"".join(
        frame(CONTINUATION if at else HEADERS, (0 if at else flags) | (END_HEADERS if at == last else 0), 1, piece)
        for at, piece in enumerate(pieces)
    )


def request(fields: Iterable[Field], body: bytes | None = None, trailers: Iterable[Field] | None = None) -> bytes:
    """A connection with one request."""
    data = PREFACE + frame(SETTINGS, 0, 0, b"") + frame(SETTINGS, ACK, 0, b"")
    encoder = Encoder()
    data += head(fields, END_STREAM if body is None else 0, encoder)
    if body is not None:
        data += frame(DATA, END_STREAM if trailers is None else 0, 1, body)
    return data if trailers is None else data + head(trailers, END_STREAM, encoder)


def replaced(name: bytes, value: bytes) -> list[Field]:
    return [(each, value if each == name else old) for each, old in BASE]


def numbered(family: str, heads: Iterable[Iterable[Field]]) -> Iterator[Case]:
    for at, fields in enumerate(heads):
        yield Case(f"{family}/{at}", request(fields))


def by_byte(family: str, values: bytes, made: Iterable[Iterable[Field]]) -> Iterator[Case]:
    for value, fields in zip(values, made, strict=True):
        yield Case(f"{family}/{value:02x}", request(fields))


def cases() -> Iterator[Case]:
    yield from _pseudo_headers()
    yield from _fields()
    yield from _bodies()


def _pseudo_headers() -> Iterator[Case]:
    yield Case("h2-plain/get", request(BASE))
    yield from numbered("h2-missing", ([pair for pair in BASE if pair[0] != name] for name, _ in BASE))
    yield from numbered("h2-missing-host", ([p for p in BASE if p[0] != n] + [(b"host", SHOP)] for n, _ in BASE))
    yield from numbered("h2-twice", ([*BASE, pair] for pair in BASE))
    yield from numbered("h2-twice-other", ([*BASE, (name, b"/evil")] for name, _ in BASE))
    yield from numbered("h2-late", ([p for p in BASE if p != late] + [(b"x", b"a"), late] for late in BASE))
    yield from numbered("h2-empty", (replaced(name, b"") for name, _ in BASE))
    yield from numbered("h2-upper", ([(n.upper() if n == name else n, v) for n, v in BASE] for name, _ in BASE))
    yield from numbered(
        "h2-unknown", ([*BASE, (name, b"a")] for name in (b":x", b":", b":status", b":protocol", b":host"))
    )
    yield from numbered("h2-method", (replaced(b":method", method) for method in request_lines.METHODS))
    yield from by_byte("h2-method-byte", EVERY, (replaced(b":method", b"GE" + bytes([b]) + b"T") for b in EVERY))
    yield from numbered("h2-scheme", (replaced(b":scheme", scheme) for scheme in SCHEMES))
    yield from numbered("h2-path", (replaced(b":path", path) for path in (*targets.FORMS, *paths.EXACT)))
    yield from numbered("h2-path-query", (replaced(b":path", path + b"?q=/../%2e") for path in paths.EXACT))
    yield from numbered("h2-path-absolute", (replaced(b":path", path) for path in targets.ABSOLUTE[:25]))
    yield from by_byte("h2-path-byte", EVERY, (replaced(b":path", b"/a" + bytes([b]) + b"b") for b in EVERY))
    yield from by_byte("h2-path-first-byte", EVERY, (replaced(b":path", bytes([b])) for b in EVERY))
    yield from by_byte("h2-path-escape", EVERY, (replaced(b":path", b"/a%%%02xb" % b) for b in EVERY))
    yield from numbered("h2-authority", (replaced(b":authority", host) for host in hosts.VALUES))
    yield from numbered("h2-authority-host", ([*replaced(b":authority", h), (b"host", SHOP)] for h in hosts.VALUES))
    yield from numbered("h2-host", ([*BASE, (b"host", host)] for host in hosts.VALUES))
    yield from numbered("h2-host-only", ([*BASE[:2], BASE[3], (b"host", host)] for host in hosts.VALUES))
    yield from numbered(
        "h2-host-twice", ([*BASE, (b"host", a), (b"host", b)] for a in hosts.TWICE for b in hosts.TWICE)
    )
    yield from by_byte("h2-authority-byte", EVERY, (replaced(b":authority", SHOP + bytes([b])) for b in EVERY))
    for method in (b"CONNECT", b"OPTIONS"):
        for at, path in enumerate((b"*", b"/", b"", b"shop00:80")):
            fields = [(n, method if n == b":method" else path if n == b":path" else v) for n, v in BASE]
            yield Case(f"h2-{method.decode().lower()}/{at}", request(fields))
            yield Case(
                f"h2-{method.decode().lower()}/{at}-websocket",
                request([*fields[:1], (b":protocol", b"websocket"), *fields[1:]]),
            )
    yield Case("h2-connect/plain", request([(b":method", b"CONNECT"), (b":authority", SHOP + b":80")]))


def _fields() -> Iterator[Case]:
    yield from numbered("h2-specific", ([*BASE, field] for field in SPECIFIC))
    yield from numbered("h2-specific-connection", ([*BASE, field, (b"connection", field[0])] for field in SPECIFIC))
    lines = [line.partition(b":")[::2] for line in header_lines.LINES if not line.startswith(b":")]
    yield from numbered("h2-line", ([*BASE, (name, value.strip(b" "))] for name, value in lines))
    yield from numbered("h2-line-lower", ([*BASE, (name.lower(), value)] for name, value in lines))
    yield from numbered("h2-field-twice", ([*BASE, (n.lower(), b"a"), (n.lower(), b"b")] for n in header_lines.TWICE))
    yield from by_byte("h2-name-byte", EVERY, ([*BASE, (b"x" + bytes([b]) + b"y", b"a")] for b in EVERY))
    yield from by_byte("h2-name-first-byte", EVERY, ([*BASE, (bytes([b]) + b"y", b"a")] for b in EVERY))
    yield from by_byte("h2-value-byte", EVERY, ([*BASE, (b"x", b"a" + bytes([b]) + b"b")] for b in EVERY))
    yield from by_byte("h2-value-first-byte", INTERESTING, ([*BASE, (b"x", bytes([b]) + b"b")] for b in INTERESTING))
    yield from by_byte("h2-value-last-byte", INTERESTING, ([*BASE, (b"x", b"b" + bytes([b]))] for b in INTERESTING))
    yield from numbered("h2-te", ([*BASE, (b"te", value)] for value in connections.TES))
    yield from numbered("h2-coding", ([*BASE, (b"transfer-encoding", value)] for value in codings.VALUES))
    yield from numbered("h2-expect", ([*BASE, (b"expect", value)] for value in connections.EXPECTATIONS))
    yield from numbered("h2-upgrade", ([*BASE, (b"upgrade", value)] for value in connections.UPGRADES))
    for count in (2, 50, 95, 96, 97, 99, 100, 101, 102, 105, 110, 500):
        yield Case(f"h2-count/different-{count}", request([*BASE, *((b"x%d" % at, b"a") for at in range(count))]))
        yield Case(f"h2-count/cookies-{count}", request([*BASE, *((b"cookie", b"a=%d" % at) for at in range(count))]))
    for size in (1_000, 16_000, 50_000, 60_000, 61_000, 61_200, 61_300, 61_400, 61_500, 65_536, 100_000):
        yield Case(f"h2-size/value-{size}", request([*BASE, (b"x", b"a" * size)]))
        yield Case(f"h2-size/path-{size}", request(replaced(b":path", b"/" + b"a" * size)))
        yield Case(
            f"h2-size/cookie-{size}", request([*BASE, *((b"cookie", b"c" * 1_000) for _ in range(size // 1_000))])
        )


def _bodies() -> Iterator[Case]:
    for at, value in enumerate(lengths.VALUES):
        yield Case(f"h2-length/{at}", request([*POST, (b"content-length", value)], b"hi"))
        yield Case(f"h2-length-none/{at}", request([*POST, (b"content-length", value)]))
    for at, (a, b) in enumerate((a, b) for a in lengths.PAIRS for b in lengths.PAIRS):
        yield Case(f"h2-length-twice/{at}", request([*POST, (b"content-length", a), (b"content-length", b)], b"hi"))
    for at, trailer in enumerate((*TRAILERS, *BASE, *SPECIFIC)):
        yield Case(f"h2-trailer/{at}", request(POST, b"hi", [trailer]))
    for method in (b"GET", b"HEAD", b"POST", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT"):
        for name, body in (
            ("empty", b""),
            ("body", b"hi"),
            ("request", b"GET /poison HTTP/1.1\r\nHost: shop00\r\n\r\n"),
        ):
            yield Case(f"h2-body/{method.decode()}-{name}", request([(b":method", method), *BASE[1:]], body))

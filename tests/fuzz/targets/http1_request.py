"""A client of any bytes: the requests that are taken are the same however the bytes are cut, each is one request to a reader
that is strict in its own way, and its end is where that reader sees it."""

from __future__ import annotations

from itertools import pairwise

from meshlib.proxy.destination import destination
from meshlib.transport.protocol.http1_request import MAX_HEAD_BYTES, MAX_HEADERS, Refused, RequestReader
from tests.fuzz.raw_input import RawInput
from tests.proxy.malformed.upstream import Message, read

Taken = tuple[bytes, bytes, bytes, bytes]
"""Method, target, header lines and body of a request that came whole."""


def run(data: bytes) -> None:
    raw = RawInput(data)
    cuts = sorted({raw.below(2048) for _ in range(raw.below(8))})
    stream = raw.rest()
    whole, refused = conversation([stream])
    places = [0, *(at for at in cuts if at < len(stream)), len(stream)]
    for pieces in ([stream[a:b] for a, b in pairwise(places)], [stream[at : at + 1] for at in range(len(stream))]):
        found = conversation(pieces)
        assert found == (whole, refused), (found, whole, refused)
    rest = stream
    for method, target, lines, body in whole:
        rest = rest.removeprefix(b"\r\n")  # one empty line before a request is passed over
        message = read(rest)
        assert message is not None, (rest, method, target)
        assert (message.method, message.target, message.body) == (method, target, body)
        rest = message.surplus
        sent = read(b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, without_length(lines)))
        assert sent is not None, lines
        assert sent.surplus == b""
        one_host(sent)
        assert lines.count(b"\r\n") <= MAX_HEADERS + 1
        assert len(lines) <= MAX_HEAD_BYTES + 32


def conversation(pieces: list[bytes]) -> tuple[list[Taken], bool]:
    """The requests that were taken, and whether what followed them was refused."""
    reader = RequestReader()
    found: list[Taken] = []
    head, body = None, b""
    for piece in pieces:
        reader.feed(piece)
        try:
            while True:
                if head is None:
                    head = reader.head()
                    if head is None:
                        break
                    destination(head, "BASE")
                body += reader.body()
                if not reader.ended:
                    break
                found.append((head.method, head.target, head.lines, body))
                head, body = None, b""
        except Refused as refused:
            assert 400 <= refused.status < 600
            return found, True
    return found, False


def without_length(lines: bytes) -> bytes:
    """Header lines without that of the length: the body is not sent here."""
    kept = [line for line in lines.split(b"\r\n")[:-1] if not line.lower().startswith(b"content-length:")]
    return b"".join(line + b"\r\n" for line in kept)


def one_host(message: Message) -> None:
    hosts = [value for name, value in message.headers if name == b"host"]
    assert len(hosts) == 1, message
    assert not {name for name, _ in message.headers} & {b"connection", b"transfer-encoding", b"upgrade", b"keep-alive"}

"""An HTTP/1.1 server of any bytes: read without an exception, the same however the bytes are cut, within bounds."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from meshlib.transport.protocol.http1 import MAX_HEAD_BYTES, MAX_HEADERS, ResponseReader
from tests.fuzz.raw_input import RawInput

MOST = 3  # answers of one connection


def run(data: bytes) -> None:
    raw = RawInput(data)
    heads = [raw.flag() for _ in range(MOST)]
    cuts = sorted({raw.below(2048) for _ in range(raw.below(8))})
    stream = raw.rest()
    whole = conversation([stream] if stream else [], heads)
    for pieces in (cut(stream, cuts), [stream[at : at + 1] for at in range(len(stream))]):
        found = conversation(pieces, heads)
        assert len(found) == len(whole), (found, whole)
        for ours, theirs in zip(found, whole, strict=True):
            if ours != theirs and stream.endswith((b"\r", b"\n")) and ours[0] == (True, False):
                continue  # an empty line after an answer, which llhttp passes over when it comes with it
            assert ours == theirs, (ours, theirs)


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *(at for at in cuts if at < len(stream)), len(stream)]
    return [stream[a:b] for a, b in pairwise(places) if a < b]


def conversation(pieces: list[bytes], heads: list[bool]) -> list[Any]:
    """What came of one request: its answer, and the end of the connection."""
    reader = ResponseReader()
    reader.begin(heads[0])
    body = b""
    for piece in pieces:
        reader.feed(piece)
        body += reader.take()
        assert reader.take() == b""
        assert len(reader.headers) <= MAX_HEADERS + 1
        assert len(reader.trailers) <= MAX_HEADERS + 1
        assert sum(len(n) + len(v) for n, v in (*reader.headers, *reader.trailers)) <= 2 * MAX_HEAD_BYTES + len(piece)
        if reader.error:
            break
    assert not (reader.error and reader.reusable)
    assert not reader.error or reader.poisoned
    if reader.error:
        return ["error"]  # how much of the body was handed over before depends on the cut
    before = (reader.complete, reader.reusable)
    proper = reader.feed_eof()
    assert not reader.reusable
    return [before, proper, reader.status, reader.reason, reader.headers, reader.trailers, body, reader.head_done]

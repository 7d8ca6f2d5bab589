"""Whoever connects to the admin endpoint: any bytes are a request for a page or refused, the same however they are cut."""

from __future__ import annotations

from itertools import pairwise

from meshlib.admin.request import MOST_BYTES, AdminRequest, Refused, RequestReader
from tests.fuzz.raw_input import RawInput


def run(data: bytes) -> None:
    raw = RawInput(data)
    local = raw.flag()
    cuts = sorted({raw.below(512) for _ in range(raw.below(6))})
    stream = raw.rest()
    whole = read([stream] if stream else [], local)
    for pieces in (cut(stream, cuts), [stream[at : at + 1] for at in range(len(stream))]):
        found = read(pieces, local)
        if len(stream) <= MOST_BYTES:
            assert type(found) is type(whole), (found, whole)
            assert getattr(found, "status", 200) == getattr(whole, "status", 200), (found, whole)
    if isinstance(whole, AdminRequest):
        assert whole.method in ("GET", "HEAD")
        assert stream[:4] in (b"GET ", b"HEAD") or stream[:1] in (b"\r", b"\n")


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *(at for at in cuts if at < len(stream)), len(stream)]
    return [stream[a:b] for a, b in pairwise(places) if a < b]


def read(pieces: list[bytes], local: bool) -> AdminRequest | Refused | None:
    reader = RequestReader(local=local)
    for piece in pieces:
        found = reader.feed(piece)
        if found is not None:
            return found
    return None

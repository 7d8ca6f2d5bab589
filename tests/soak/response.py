"""What servers answer, so that callers can tell whose response they hold: the call's id, what the server got, and filler."""

from __future__ import annotations

import zlib

ID = b"x-soak-id"
SIZE = b"x-soak-size"
FAULT = b"x-soak-fault"


def body_for(call: bytes, received: bytes, size: int) -> bytes:
    """The id, length and checksum of the request's body, then ``size`` bytes of the id again and again."""
    head = b"%s %d %08x\n" % (call, len(received), zlib.crc32(received))
    return head + (call + b"\n") * (size // (len(call) + 1))


def id_in(body: bytes) -> str:
    """The id that the first bytes of a response carry, "" when they are no response of ours."""
    first, space, _ = body[:80].partition(b" ")
    return first.decode("latin-1") if space else ""


def answer_in(call: str, body: bytes, received: bytes, size: int) -> str:
    """The id that a whole response carries, or what is wrong with it."""
    found = id_in(body)
    if found == call and body != body_for(call.encode(), received, size):
        return f"a garbled {call}: {body[:60]!r}, {len(body)} bytes"
    return found


def step(call: bytes, number: int) -> bytes:
    """Message ``number`` of a gRPC stream."""
    return b"%s %d\n" % (call, number)

"""How large a message of gRPC is on the wire."""

from __future__ import annotations

from struct import Struct

FRAME = 5
"""Bytes before each message: whether it is compressed, and its length."""


def length_of(size: int) -> bytes:
    """What follows the first byte of a message of so many bytes, its frame with them; of fewer than a frame has, nothing that
    could. (Kept for no size: callers' messages have any.)"""
    return (size - FRAME if size > FRAME else 0).to_bytes(FRAME - 1, "big")


size_in = Struct(">xi").unpack_from
"""What a message says: its bytes without its frame. Of bytes that begin with one; likewise of less than two gigabytes."""


def size_of_message(message: object) -> int:
    """Bytes of a message and what frames it, before compression. 0 of one that neither is bytes nor says how long it is (no
    protobuf message): grpcio hands over what a deserializer has made."""
    if isinstance(message, bytes):
        return FRAME + len(message)
    size = getattr(message, "ByteSize", None)
    return 0 if size is None else FRAME + int(size())

"""x-request-id, as Envoy makes it: a UUID whose 15th character, a "4" by the standard, holds the decision about its trace."""

from __future__ import annotations

import random
import struct
from binascii import hexlify
from collections.abc import Callable, Iterable
from operator import itemgetter

REQUEST_ID = "x-request-id"
_REASON = 14
_DRAWN = 2**128 - 1 - (0xF << 76) - (0b11 << 62)
_VERSION_4 = (0x4 << 76) | (0b10 << 62)
"""Bits of a UUID of that version which are not drawn."""
_parts: Callable[[str], Iterable[str]] = itemgetter(slice(8), slice(8, 12), slice(12, 16), slice(16, 20), slice(20, 32))
AT_ONCE = 64
"""Ids that ``new_request_ids`` makes."""
LENGTH = 36
"""Bytes of one as it is written."""
_BITS = 4 * LENGTH  # of one as it is written, were its dashes digits, too
_EACH = sum(1 << _BITS * at for at in range(AT_ONCE))
_ALL_DRAWN = (2**_BITS - 1 - (0xF << 4 * 21) - (0b11 << 4 * 16 + 2)) * _EACH
_ALL_VERSION_4 = ((0x4 << 4 * 21) | (0b10 << 4 * 16 + 2)) * _EACH
_DASHES = b"-" * AT_ONCE
_BETWEEN = [slice(at, None, LENGTH) for at in (8, 13, 18, 23)]
_apart: Callable[[bytearray], tuple[bytes, ...]] = struct.Struct(f"{LENGTH}s" * AT_ONCE).unpack
UNDECIDED = "4"
SAMPLED = "9"
_TRACED = frozenset("9ab")
"""Sampled; forced by a service (x-envoy-force-trace); forced by a client."""


def new_request_id(rng: random.Random) -> str:
    """A UUID of version 4, without a decision."""
    # not number by number, each of which takes half as long as all of them together, nor part by part
    return "-".join(_parts((rng.getrandbits(128) & _DRAWN | _VERSION_4).to_bytes(16).hex()))


def new_request_ids(rng: random.Random) -> tuple[bytes, ...]:
    """``AT_ONCE`` of them in bytes, an eighth of the time each: for who needs many."""
    drawn = rng.getrandbits(_BITS * AT_ONCE) & _ALL_DRAWN | _ALL_VERSION_4
    ids = bytearray(hexlify(drawn.to_bytes(_BITS // 8 * AT_ONCE, "big")))
    for where in _BETWEEN:
        ids[where] = _DASHES
    return _apart(ids)


class RequestIds:
    """Those of requests that come by one loop, drawn many at a time."""

    __slots__ = ("_rng", "left")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.left: list[bytes] = []
        """Drawn already. A hot path (``proxy/http2_downstream.py``) takes from its end itself, as ``take`` does."""

    def take(self) -> bytes:
        """One that no request has yet."""
        left = self.left
        if not left:
            left.extend(new_request_ids(self._rng))
        return left.pop()


def is_traced(request_id: str) -> bool:
    """Whether an id says that its request is traced. One that is not a UUID says nothing."""
    return len(request_id) == 36 and request_id[_REASON] in _TRACED


def with_reason(request_id: str, reason: str) -> str:
    """The id with ``reason`` in it."""
    return f"{request_id[:_REASON]}{reason}{request_id[_REASON + 1 :]}"


def is_drawn(request_id: str, percentage: float) -> bool | None:
    """Whether a request is among the ``percentage`` (0..100) that are sampled: the same for one id wherever it is asked, in
    steps of 0.01 % as in Envoy. None for an id that is not a UUID, which cannot be drawn by."""
    if len(request_id) != 36:
        return None
    try:
        number = int(request_id[:8], 16)
    except ValueError:
        return None
    return number % 10_000 < round(percentage * 100)

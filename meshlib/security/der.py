"""Values of DER that stand one behind the other, as the SPIFFE Workload API hands over chains and bundles."""

from __future__ import annotations

SEQUENCE = 0x30
MOST = 64
"""Certificates of one chain or bundle."""


def split(raw: bytes, what: str = "certificate") -> tuple[bytes, ...]:
    """Each SEQUENCE of ``raw``. Raises ValueError for what is not DER to its last byte, as the end of a sentence."""
    found: list[bytes] = []
    at = 0
    while at < len(raw):
        if len(found) == MOST:
            raise ValueError(f"has more than {MOST} of DER: one {what} behind the other is expected")
        end = _end(raw, at, what)
        found.append(raw[at:end])
        at = end
    return tuple(found)


def _end(raw: bytes, at: int, what: str) -> int:
    if raw[at] != SEQUENCE:
        raise ValueError(f"is not a valid {what} in DER at byte {at}")
    if at + 2 > len(raw):
        raise ValueError(f"breaks off in a {what}")
    size, begin = raw[at + 1], at + 2
    if size >= 0x80:
        count = size & 0x7F
        digits = raw[begin : begin + count]
        if not 1 <= count <= 4 or len(digits) < count or digits[0] == 0:
            raise ValueError(f"is not a valid {what} in DER at byte {at}")
        size, begin = int.from_bytes(digits, "big"), begin + count
        if size < 0x80:
            raise ValueError(f"is not a valid {what} in DER at byte {at}")
    if begin + size > len(raw):
        raise ValueError(f"breaks off in a {what}")
    return begin + size

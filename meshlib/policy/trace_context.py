"""Trace contexts in headers: B3, in one header and in several, and traceparent, read and written.

B3 has what W3C has not: a decision without a trace (``b3: 0``), a trace whose decision is left to whoever reads it, a debug
flag that overrules samplers, ids of 64 bits. What is not valid is as if it were not there, as in Envoy.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Lookup: TypeAlias = Callable[[str], str | None]
"""A header's value by its name in lower case."""

Pairs: TypeAlias = list[tuple[bytes, bytes]]

_SINGLE = re.compile(r"([0-9a-f]{32}|[0-9a-f]{16})-([0-9a-f]{16})(?:-([01d]))?(?:-[0-9a-f]{16})?\Z")
_W3C = re.compile(r"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?[ \t]*\Z")
usual_traceparent = re.compile(rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})").fullmatch
"""A value as nearly all write it; its groups are what ``read_in_hex`` reads, which may know another one, too."""
_TRACE_ID = re.compile(r"(?:[0-9a-f]{32}|[0-9a-f]{16})\Z")
_SPAN_ID = re.compile(r"[0-9a-f]{16}\Z")
_DECISIONS = {"0": False, "1": True, "d": True, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Told:
    """What headers tell: ids (0: of no trace) and the decision, None where it is left to whoever reads them."""

    trace_id: int = 0
    span_id: int = 0
    sampled: bool | None = None


NOTHING = Told()


def read_b3(header: Lookup) -> Told:
    """What B3 headers tell; the single one takes precedence over the others, as its specification has it."""
    single = header("b3")
    if single is not None:
        found = _read_single(single.strip().lower())
        if found is not NOTHING:
            return found
    sampled = _DECISIONS.get((header("x-b3-sampled") or "").strip().lower())
    if (header("x-b3-flags") or "").strip() == "1":
        sampled = True
    trace = (header("x-b3-traceid") or "").strip().lower()
    span = (header("x-b3-spanid") or "").strip().lower()
    if _TRACE_ID.match(trace) and _SPAN_ID.match(span):
        ids = int(trace, 16), int(span, 16)
        if all(ids):
            return Told(*ids, sampled)
    return NOTHING if sampled is None else Told(sampled=sampled)


def _read_single(value: str) -> Told:
    decision = _DECISIONS.get(value) if len(value) == 1 else None
    if decision is not None:
        return Told(sampled=decision)
    match = _SINGLE.match(value)
    if match is None:
        return NOTHING
    trace, span, sampled = match.groups()
    ids = int(trace, 16), int(span, 16)
    return Told(*ids, None if sampled is None else _DECISIONS[sampled]) if all(ids) else NOTHING


def read_traceparent(value: str) -> tuple[int, int, int] | None:
    """Ids of trace and span, and flags, of W3C's header; None: it is not valid. Of a later version what ours knows is read."""
    match = _W3C.match(value)
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    if version == "ff" or (more and version == "00"):
        return None
    trace_id, span_id = int(trace, 16), int(span, 16)
    return (trace_id, span_id, int(flags, 16)) if trace_id and span_id else None


def read_in_hex(value: bytes) -> tuple[bytes, bytes, bytes] | None:
    """``read_traceparent`` of bytes, in hexadecimal."""
    found = read_traceparent(value.decode("latin-1"))
    return None if found is None else (b"%032x" % found[0], b"%016x" % found[1], b"%02x" % found[2])


def write_b3(trace_id: int, span_id: int, sampled: bool) -> Pairs:
    """The headers of a span's context, several of them, as Zipkin's tracer in Envoy writes them."""
    return [
        (b"x-b3-traceid", b"%032x" % trace_id),
        (b"x-b3-spanid", b"%016x" % span_id),
        (b"x-b3-sampled", b"1" if sampled else b"0"),
    ]


def write_single_b3(trace_id: int, span_id: int, sampled: bool) -> Pairs:
    """The same in one header."""
    return [(b"b3", b"%032x-%016x-%d" % (trace_id, span_id, sampled))]


def write_traceparent(trace_id: int, span_id: int, flags: int) -> tuple[bytes, bytes]:
    """W3C's header of a span's context. ``flags`` are bits: sampled is the last."""
    return b"traceparent", b"00-%032x-%016x-%02x" % (trace_id, span_id, flags)

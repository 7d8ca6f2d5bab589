"""Spans in the bytes of OTLP (``opentelemetry.proto.trace.v1``), written without a message in between: for a proxy that makes
one or more for each request, messages of protobuf cost more than all else that it does for the request (row proxy-policies of
the benchmarks).

Numbers of fields are those of OpenTelemetry's protocol, which are fixed. Raises nothing: text that UTF-8 cannot hold is written
with ``?``, values of no kind that OTLP knows as text."""

from __future__ import annotations

import struct
from binascii import unhexlify
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

LONGEST = 4096
"""Characters of an attribute: whatever strangers put into a header, memory stays bounded."""

SERVER, CLIENT = 2, 3
"""``SpanKind``."""
ERROR = b"\x18\x02"
"""``Status.code`` of a span that has failed."""
OK = b"z\x02\x18\x01"
"""The status of one of which somebody has said that it has not."""
REMOTE, LOCAL = 0x300, 0x100
"""``SpanFlags``: whether the parent is somebody else's is known, and is so or not."""

_SHORT = 123
"""Bytes of a key and a value of which all lengths are one byte."""
_LONG = 16_000
"""Of which none has more than two."""
BITS = (1 << 64) - 1
times = struct.Struct("<BqBq").pack
"""When a span began and ended, as a piece of ``served``: 0x39 and the one time, 0x41 and the other, in nanoseconds since the
epoch."""
_times = struct.Struct("<BQBQ").pack
_double = struct.Struct("<d").pack
_flags = struct.Struct("<I").pack


def varint(number: int) -> bytes:
    """A number as protobuf writes lengths. Not negative."""
    if number < 128:
        return b"%c" % number
    if number < 16384:
        return b"%c%c" % (number & 127 | 128, number >> 7)
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    made.append(number)
    return bytes(made)


def field(tag: bytes, data: bytes) -> bytes:
    """A field whose length is told before it."""
    return tag + varint(len(data)) + data


@lru_cache(1024)  # keys are those of this library and of the resources
def _key(key: str) -> bytes:
    return field(b"\n", key.encode("utf-8", "replace"))


def attribute(key: str, value: object) -> bytes:
    """One attribute of a span."""
    name = _key(key)
    if type(value) is str:
        data = value.encode("utf-8", "replace") if len(value) <= LONGEST else value[:LONGEST].encode("utf-8", "replace")
        length = len(data)
        size = len(name) + length
        if size <= _SHORT:
            return b"J%c%b\x12%c\n%c%b" % (size + 4, name, length + 2, length, data)
        if length > 127 and size < _LONG:  # two bytes each
            inner, outer = length + 3, size + 6
            return b"J%c%c%b\x12%c%c\n%c%c%b" % (
                outer & 127 | 128,
                outer >> 7,
                name,
                inner & 127 | 128,
                inner >> 7,
                length & 127 | 128,
                length >> 7,
                data,
            )
        if length < 126 and size < _LONG:
            outer = size + 4
            return b"J%c%c%b\x12%c\n%c%b" % (outer & 127 | 128, outer >> 7, name, length + 2, length, data)
    return field(b"J", name + field(b"\x12", _value(value)))


class Named(dict[int, bytes]):
    """What is written of attributes with this key before their value, by its length: of text in UTF-8, in bytes."""

    __slots__ = ("_key",)

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = field(b"\n", key.encode())

    def __missing__(self, length: int) -> bytes:
        told = b"\n" + varint(length)
        value = self._key + b"\x12" + varint(len(told) + length) + told
        made = b"J" + varint(len(value) + length) + value
        if len(self) <= LONGEST:  # so many lengths are usual, and kept
            self[length] = made
        return made


def attributes(found: Mapping[str, object]) -> bytes:
    """All of them; those that are None left out."""
    return b"".join([attribute(key, value) for key, value in found.items() if value is not None])


def _value(value: object) -> bytes:
    if isinstance(value, str):
        return field(b"\n", value[:LONGEST].encode("utf-8", "replace"))
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + varint(value & BITS)
    if isinstance(value, float):
        return b"!" + _double(value)
    if isinstance(value, bytes):
        return field(b":", value[:LONGEST])
    if isinstance(value, Sequence):
        return field(b"*", b"".join([field(b"\n", _value(each)) for each in value]))
    return field(b"\n", str(value)[:LONGEST].encode("utf-8", "replace"))


def event(name: str, at: int, told: Mapping[str, object]) -> bytes:
    """One event of a span. ``at``: nanoseconds since the epoch."""
    pairs = b"".join([b"\x1a" + attribute(key, value)[1:] for key, value in told.items() if value is not None])
    body = b"\t%b%b%b" % (at.to_bytes(8, "little"), field(b"\x12", name.encode("utf-8", "replace")), pairs)
    return field(b"Z", body)


def status(failed: bool, detail: str = "") -> bytes:
    """What came of it; empty where nothing is said."""
    if not failed:
        return b""
    told = field(b"\x12", detail[:LONGEST].encode("utf-8", "replace")) if detail else b""
    return field(b"z", told + ERROR)


def span(
    trace_id: bytes,
    span_id: bytes,
    parent_id: bytes,
    name: bytes,
    kind: int,
    start: int,
    end: int,
    rest: bytes,
    flags: int,
    state: bytes = b"",
) -> bytes:
    """A span, as one of its scope's. Ids are of 16 and 8 bytes, ``parent_id`` empty for the first of a trace; times are in
    nanoseconds since the epoch; ``rest`` are its attributes, events and status; ``flags`` tell of the parent; ``state`` is the
    trace's."""
    begun = _times(0x39, start & BITS, 0x41, end & BITS)
    head = b"\n\x10%b\x12\x08%b" % (trace_id, span_id)
    if parent_id:
        head = b'%b"\x08%b' % (head, parent_id)
    if state:
        head += field(b"\x1a", state)
    body = b"%b*%b%b0%c%b%b\x85\x01%b" % (head, varint(len(name)), name, kind, begun, rest, _flags(flags))
    return b"\x12%b%b" % (varint(len(body)), body)


def ids(trace_id: bytes, span_id: bytes, parent_id: bytes, state: bytes = b"") -> bytes:
    """Where a server's span is in its trace, and that its parent is somebody else's, as pieces of ``served``. Ids are
    hexadecimal, as in a traceparent; without a parent it is the first of its trace."""
    if parent_id:
        made = unhexlify(b"0a10%b1208%b2208%b850100030000" % (trace_id, span_id, parent_id))  # ends with ``REMOTE``
    else:
        made = unhexlify(b"0a10%b1208%b850100010000" % (trace_id, span_id))  # with ``LOCAL``
    return made + field(b"\x1a", state) if state else made


class _Lengths(dict[int, bytes]):
    """What is written of a span of so many bytes before them."""

    __slots__ = ()

    def __missing__(self, length: int) -> bytes:
        made = b"\x12" + varint(length)
        if len(self) <= LONGEST:  # so many lengths are usual, and kept
            self[length] = made
        return made


of_length = _Lengths()


def served(pieces: tuple[bytes, ...]) -> bytes:
    """A span of these, as ``span`` writes one, whose fields may come in any order: ``ids``, ``times``, ``named``, attributes,
    events and status."""
    body = b"".join(pieces)
    return of_length[len(body)] + body


def named(name: bytes) -> bytes:
    """Name and kind of a server's span."""
    return b"%b0%c" % (field(b"*", name), SERVER)


def request(resource: bytes, scope: str, spans: Iterable[bytes]) -> bytes:
    """An ``ExportTraceServiceRequest`` with these spans. ``resource``: as ``resource_of`` makes it."""
    named = field(b"\n", field(b"\n", scope.encode()))
    return field(b"\n", resource + field(b"\x12", named + b"".join(spans)))


def resource_of(found: Mapping[str, object]) -> bytes:
    """A resource with these attributes."""
    return field(b"\n", b"".join([b"\n" + attribute(key, value)[1:] for key, value in found.items()]))

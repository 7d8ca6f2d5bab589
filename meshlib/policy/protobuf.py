"""The wire format of protocol buffers, as far as a few small messages need it: what Envoy's services of authorization and rate
limits are asked, and what they say. Whoever has these messages from strangers gets ``ValueError`` for anything malformed.

A message is made by joining its fields, and read as pairs of a field's number and its value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

MOST_FIELDS = 10_000
"""Of one message: what has more is not read."""

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_HIGH = 0x80


# -- making -----------------------------------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    """A whole number from 0 to 2**64 - 1; negative ones are written as protobuf writes them, in ten bytes."""
    number &= 0xFFFF_FFFF_FFFF_FFFF
    made = bytearray()
    while number >= _HIGH:
        made.append(number & 0x7F | _HIGH)
        number >>= 7
    made.append(number)
    return bytes(made)


def data(field: int, value: bytes) -> bytes:
    """A field of bytes, or of a message; nothing when it is empty, which means the same."""
    return b"%b%b%b" % (varint(field << 3 | LENGTH), varint(len(value)), value) if value else b""


def message(field: int, value: bytes) -> bytes:
    """A field of a message that is there, even if it is empty."""
    return data(field, value) or b"%b\0" % varint(field << 3 | LENGTH)


def text(field: int, value: str) -> bytes:
    """A field of text, given as a wire string (bytes read as latin-1). What is not UTF-8 in it is written as ``!``, as Envoy
    writes it: protobuf's texts must be UTF-8."""
    return data(field, readable(value).encode())


def readable(value: str) -> str:
    """The text that a wire string is."""
    if value.isascii():
        return value
    return value.encode("latin-1", "replace").decode("utf-8", "replace").replace("�", "!")


def number(field: int, value: int) -> bytes:
    """A field of a whole number or a truth value; nothing when it is 0, which means the same."""
    return varint(field << 3 | VARINT) + varint(value) if value else b""


def texts(field: int, values: Iterable[tuple[str, str]]) -> bytes:
    """A field that is a map from text to text."""
    return b"".join([message(field, text(1, key) + text(2, value)) for key, value in values])


# -- reading ----------------------------------------------------------------------------------------------------------


def fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message in their order: numbers as they are on the wire, everything else as bytes. Raises ValueError."""
    at, end, count = 0, len(raw), 0
    while at < end:
        count += 1
        if count > MOST_FIELDS:
            raise ValueError(f"a message of more than {MOST_FIELDS} fields")
        tag, at = _varint(raw, at)
        field, kind = tag >> 3, tag & 7
        if not 0 < field < 1 << 29:
            raise ValueError("a field with a number that no field has")
        if kind == VARINT:
            value, at = _varint(raw, at)
            yield field, value
            continue
        if kind == LENGTH:
            size, at = _varint(raw, at)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise ValueError("a field of a type that is not in use")
        if size > end - at:
            raise ValueError("a field that is longer than its message")
        piece = raw[at : at + size]
        at += size
        yield field, piece if kind == LENGTH else int.from_bytes(piece, "little")


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    made = shift = 0
    while True:
        if at >= len(raw):
            raise ValueError("a message that breaks off in a number")
        byte = raw[at]
        at += 1
        made |= (byte & 0x7F) << shift
        if byte < _HIGH:
            if made >= 1 << 64:
                raise ValueError("a number of more than 64 bits")
            return made, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


class Message:
    """A message that was read. A field that is not there is empty: 0, b"" or ""."""

    __slots__ = ("_found",)

    def __init__(self, raw: bytes) -> None:
        """Raises ValueError."""
        found: dict[int, list[int | bytes]] = {}
        for field, value in fields(raw):
            found.setdefault(field, []).append(value)
        self._found = found

    def has(self, field: int) -> bool:
        """Whether it is there."""
        return field in self._found

    def number(self, field: int) -> int:
        """The last one counts. Raises ValueError when it is not a number."""
        value = self._found.get(field, (0,))[-1]
        if not isinstance(value, int):
            raise ValueError(f"field {field} is not a number")
        return value

    def int32(self, field: int) -> int:
        """A number of 32 bits with a sign."""
        value = self.number(field) & 0xFFFF_FFFF
        return value - (1 << 32) if value >> 31 else value

    def all(self, field: int) -> list[bytes]:
        """Each of a list. Raises ValueError when one of them is a number."""
        found = []
        for value in self._found.get(field, ()):
            if isinstance(value, int):
                raise ValueError(f"field {field} is a number")
            found.append(value)
        return found

    def data(self, field: int) -> bytes:
        """Bytes: the last ones count."""
        found = self.all(field)
        return found[-1] if found else b""

    def text(self, field: int) -> str:
        """Text. Raises ValueError when it is not UTF-8."""
        return self.data(field).decode()

    def texts(self, field: int) -> list[str]:
        """A list of texts."""
        return [value.decode() for value in self.all(field)]

    def message(self, field: int) -> Message:
        """Another message, empty when it is not there; one that comes in several pieces is all of them, as protobuf merges."""
        return Message(b"".join(self.all(field)))

    def messages(self, field: int) -> list[Message]:
        """A list of messages."""
        return [Message(value) for value in self.all(field)]

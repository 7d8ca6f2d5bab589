"""Values in lines: nothing that a stranger sends can end a line, leave its quotes, or reach a terminal as a command.

Envoy writes values as they are. Here what could forge a line is written as in a string of Python: ``\\n``, ``\\"``,
``\\\\``, ``\\x1b``. Bytes that are not UTF-8 become ``\\xff``, and characters that nobody sees (U+2028, U+202E and their
like) ``\\u2028``.
"""

from __future__ import annotations

from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PLAIN = bytes(code for code in range(0x20, 0x7F) if code not in b'"\\')
"""What is written as it is, in text and in JSON."""
AS_IT_IS = bytes(code if code in PLAIN else 0 if code else 1 for code in range(256))
"""Changes all else: ``data.translate(AS_IT_IS) is data`` where nothing of it is to be escaped. Of the ways to tell that it
takes the least time, a quarter of what ``encode_basestring_ascii`` does (row access-log-whole of the benchmarks)."""
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


def is_plain(text: str) -> bool:
    """Whether a value, or several of them put together, can be written as they are."""
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


def escaped(text: str) -> str:
    """A value of a wire (bytes read as latin-1) as it stands in a line."""
    if text.isascii() and text.isprintable():
        return text.replace("\\", "\\\\").replace('"', '\\"')
    found = text
    if not text.isascii():
        try:
            data = text.encode("latin-1")
        except UnicodeEncodeError:  # characters already
            data = text.encode("utf-8", "surrogateescape")
        found = data.decode("utf-8", "surrogateescape")
    return "".join([c if c.isprintable() and c not in '"\\' else _SHORT.get(c) or _code(c) for c in found])


def _code(character: str) -> str:
    point = ord(character)
    if 0xDC80 <= point <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{point - 0xDC00:02x}"
    if point < 0x80:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def as_json(text: str) -> str:
    """A value of a wire as a string of JSON, in ASCII. Bytes that are not UTF-8 are four characters each, such as ``\\xff``."""
    return encode_basestring_ascii(text if text.isascii() else readable(text))


def readable(text: str) -> str:
    """A value of a wire as characters."""
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # characters already
        return text.encode("utf-8", "backslashreplace").decode()


if TYPE_CHECKING:
    _: Callable[[str], str] = encode_basestring_ascii

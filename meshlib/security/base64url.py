"""Base64url as RFC 7515 has it: no padding, no other characters, and one spelling of each value."""

from __future__ import annotations

import binascii
import re

_STANDARD = bytes.maketrans(b"-_", b"+/")
_CHARACTERS = re.compile(r"[A-Za-z0-9_-]*")
_PADDED = re.compile(r"([A-Za-z0-9_-]*)={0,2}")
_LAST_OF_TWO = frozenset("AQgw")
_LAST_OF_THREE = frozenset("AEIMQUYcgkosw048")
"""With spare bits of zero."""


class NotBase64Url(ValueError):
    """The text is not base64url. It is never part of the message: it may be a secret."""


def decode(text: str) -> bytes:
    """The bytes of ``text``. Raises ``NotBase64Url`` for padding, foreign characters, a length that no bytes have, and for
    spare bits that are not zero: there would be two texts of one token."""
    spare = len(text) % 4
    if not _CHARACTERS.fullmatch(text):
        raise NotBase64Url("a character that is not base64url")
    if spare and (spare == 1 or text[-1] not in (_LAST_OF_TWO if spare == 2 else _LAST_OF_THREE)):
        raise NotBase64Url("not how bytes are written in base64url")
    return _decoded(text, spare)


def decode_of_key(text: str) -> bytes:
    """The bytes of a field of a key: some issuers pad them, and their spare bits are nobody's business. Raises
    ``NotBase64Url``."""
    found = _PADDED.fullmatch(text)
    if found is None or len(found[1]) % 4 == 1:
        raise NotBase64Url("not base64url")
    return _decoded(found[1], len(found[1]) % 4)


def encode(content: bytes) -> str:
    """Base64url of ``content``, without padding."""
    return binascii.b2a_base64(content, newline=False).rstrip(b"=").decode().replace("+", "-").replace("/", "_")


def _decoded(text: str, spare: int) -> bytes:
    return binascii.a2b_base64(text.encode("ascii").translate(_STANDARD) + b"=="[: -spare % 4])

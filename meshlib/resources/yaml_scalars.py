"""What an unquoted YAML scalar means: YAML 1.2's core schema, minus its surprises.

Only ``true``/``false``, ``null``/``~``/nothing, decimal integers and decimal fractions are more than text. So ``yes``,
``no``, ``on``, ``off``, ``12:30:45``, ``2024-01-01``, ``010``, ``0x1F``, ``1_000`` and ``.inf`` stay what they look like.
"""

from __future__ import annotations

import math
import re

from meshlib.resources.values import Scalar

MAX_DIGITS = 1000
"""Of a number: int() takes quadratic time, and refuses more than 4300 itself."""

_NULLS = ("", "~", "null", "Null", "NULL")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(_NULLS),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")


NO_KEYS = frozenset((*_NULLS, "<<"))
"""What an unquoted key must not be."""


class BadNumberError(ValueError):
    """A number that no field can hold."""


def is_null(text: str) -> bool:
    """Whether an unquoted scalar is null."""
    return text in _NULLS


def plain_scalar(text: str) -> Scalar:
    """The value of an unquoted scalar; the very same ``text`` when it is a text. Raises BadNumberError."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "-+.0123456789" or not _FLOAT.fullmatch(text):
        return text
    if len(text) > MAX_DIGITS:
        raise BadNumberError(f"a number of {len(text)} characters")
    if _INT.fullmatch(text):
        return int(text)
    value = float(text)
    if math.isinf(value):
        raise BadNumberError(f"{text} is too large for a number")
    return value

"""Numbers in header values of strangers: read as Envoy reads them, or not at all. Nothing here raises, whatever the text.

Python's ``int`` and ``str.isdigit`` are not fit for it: they take other scripts' digits ("²" is one, and int() raises), and
int() refuses more than 4300.
"""

from __future__ import annotations

import re

UINT32 = 2**32 - 1
UINT64 = 2**64 - 1
LONGEST_MILLISECONDS = 10**11
"""Three years: more than that is no other time limit, and clocks, sockets and event loops overflow not far above it."""

_SPACE = " \t\n\v\f\r"
_FORM = re.compile(r"\+?[0-9]+")


def unsigned(text: str | None, most: int = UINT32) -> int | None:
    """The whole number in a header value, at most ``most``; None for anything else. The grammar is that of
    ``absl::SimpleAtoi``: ASCII digits, spaces around and a plus before them allowed."""
    if text is None:
        return None
    text = text.strip(_SPACE)
    if _FORM.fullmatch(text) is None:
        return None
    digits = text.lstrip("+0")
    if len(digits) > 20:  # more than 64 bits, and perhaps more than int() takes
        return None
    number = int(digits or "0")
    return number if number <= most else None


def milliseconds(text: str | None) -> float | None:
    """Seconds of a header that says whole milliseconds (64 bits, as in Envoy); at most ``LONGEST_MILLISECONDS``."""
    number = unsigned(text, UINT64)
    return None if number is None else min(number, LONGEST_MILLISECONDS) / 1000.0

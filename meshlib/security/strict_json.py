"""JSON of strangers: one reading of it, or none.

Duplicate keys, NaN, numbers beyond a double and lone surrogates are refused."""

from __future__ import annotations

import json
from math import isinf
from typing import TypeAlias

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"


class NotJson(ValueError):
    """The text is not JSON that has one reading. It is never part of the message: it may be a secret."""


def loads(content: bytes) -> Json:
    """What ``content`` says, in UTF-8. Raises ``NotJson``."""
    try:
        text = content.decode("utf-8")
        found: Json = _decoder.decode(text)
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode("utf-8")  # lone surrogates cannot be
    except (ValueError, RecursionError):
        pass
    else:
        return found
    # outside of ``except``: the error of the library holds the text
    raise NotJson("not JSON")


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice")
    return found


def _float(text: str) -> float:
    found = float(text)
    if isinf(found):
        raise ValueError("a number beyond a double")
    return found


def _integer(text: str) -> int:
    if len(text) >= _DIGITS:
        _float(text)  # raises for what is beyond
    return int(text)


_DIGITS = 300
"""So many digits may be beyond a double."""


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_int=_integer, parse_constant=_constant)

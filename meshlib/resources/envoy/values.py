"""A value against a message of Envoy's, as istiod decodes it: unknown fields pass, other types do not."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from pydantic_core import PydanticCustomError

from meshlib.resources.envoy.messages import fields_of, json_name, names_of, nearest_message
from meshlib.resources.hints import nearest_hint
from meshlib.resources.notices import Loc
from meshlib.resources.types import parse_duration


class Misfit(NamedTuple):
    """A value that does not fit. ``unknown``: a field that Envoy's messages do not have, which istiod passes on."""

    loc: Loc
    message: str
    hint: str
    unknown: bool = False


_WHOLE = {"i": (-(2**31), 2**31 - 1), "u": (0, 2**32 - 1), "I": (-(2**63), 2**63 - 1), "U": (0, 2**64 - 1)}
_NUMBER = re.compile(r"[ \t\r\n]*(-?(?:0|[1-9][0-9]*))[ \t\r\n]*")
_FRACTION = re.compile(r"[ \t\r\n]*(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)[ \t\r\n]*")
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")
_LARGEST_FRACTION = {"f": 3.4028235677973366e38, "d": math.inf}
_WRAPPERS = {
    "BoolValue": "b",
    "BytesValue": "y",
    "StringValue": "s",
    "Int32Value": "i",
    "UInt32Value": "u",
    "Int64Value": "I",
    "UInt64Value": "U",
    "FloatValue": "f",
    "DoubleValue": "d",
}
_OWN_FORM = frozenset((*_WRAPPERS, "Any", "Empty", "Duration", "Timestamp", "Struct", "Value", "ListValue"))
_GOOGLE = "google.protobuf."


def misfits(value: object, message: str, loc: Loc) -> Iterator[Misfit]:
    """Everything in ``value``, an object of the message at ``loc``, that does not fit."""
    if message.startswith(_GOOGLE) and (own := message.removeprefix(_GOOGLE)) in _OWN_FORM:
        yield from _own_form(own, value, loc)
        return
    fields = fields_of(message)
    if value is None or fields is None:
        return
    if type(value) is not dict:
        yield Misfit(loc, f"an object ({_short(message)}) is expected, found {_found(value)}", _known(fields))
        return
    by_name = {spelling: field for field in fields for spelling in (field, json_name(field))}
    for name, inside in value.items():
        field = by_name.get(name)
        here = (*loc, name)
        if field is None:
            yield Misfit(here, f"{_short(message)} has no field {name!r}", _known(fields), unknown=True)
        elif name == field and json_name(field) != field and json_name(field) in value:
            continue  # the other spelling counts
        elif inside is not None:
            yield from _typed(inside, fields[field], here)


def _typed(value: object, kind: str, loc: Loc) -> Iterator[Misfit]:
    if kind.startswith("*"):
        if type(value) is not list:
            yield Misfit(loc, f"a list is expected, found {_found(value)}", 'begin each entry with "- "')
            return
        for index, entry in enumerate(value):
            yield from _single(entry, kind[1:], (*loc, index))
    elif kind.startswith("%"):
        keys, _, inner = kind[1:].partition(":")
        if type(value) is not dict:
            yield Misfit(loc, f"an object (key: value) is expected, found {_found(value)}", "write key: value")
            return
        for key, entry in value.items():
            if keys in _WHOLE and not _is_whole(key, keys):
                yield Misfit((*loc, key), f"the key {key!r} is not a whole number", "write a number")
            elif keys == "b" and key not in ("true", "false"):
                yield Misfit((*loc, key), f"the key {key!r} is neither true nor false", "write true or false")
            yield from _single(entry, inner, (*loc, key))
    else:
        yield from _single(value, kind, loc)


def _single(value: object, kind: str, loc: Loc) -> Iterator[Misfit]:
    if kind.startswith("@"):
        names = names_of(kind[1:])
        if isinstance(value, str):
            if value not in names:
                hint = nearest_hint(value, sorted(names)) or f"one of {', '.join(sorted(names))}"
                yield Misfit(loc, f"{value[:60]!r} is not a value of {_short(kind[1:])}", hint)
        elif value is not None and not _is_whole(value, "i"):
            yield Misfit(loc, f"a name is expected, found {_found(value)}", f"one of {', '.join(sorted(names))}")
    elif len(kind) == 1:
        yield from _scalar(value, kind, loc)
    else:
        yield from misfits(value, kind, loc)


def _scalar(value: object, kind: str, loc: Loc) -> Iterator[Misfit]:
    if value is None:
        return  # nothing, as the decoder of lists and maps takes it
    if kind == "s":
        fits, expected, hint = isinstance(value, str), "a text", "quote it"
    elif kind == "y":
        fits, expected, hint = _is_base64(value), "bytes in base64", "encode it"
    elif kind == "b":
        fits, expected, hint = isinstance(value, bool), "true or false", "write true or false"
    elif kind in _WHOLE:
        least, most = _WHOLE[kind]
        fits, expected, hint = _is_whole(value, kind), "a whole number", f"a number {least}..{most}"
    else:
        fits, expected, hint = _is_fraction(value, kind), "a number", "for example 0.5"
    if not fits:
        yield Misfit(loc, f"{expected} is expected, found {_found(value)}", hint)


def _own_form(name: str, value: object, loc: Loc) -> Iterator[Misfit]:
    """The messages that have a JSON form of their own."""
    if value is None or name == "Value":
        return
    if name in _WRAPPERS:
        yield from _scalar(value, _WRAPPERS[name], loc)
    elif name == "Any":
        yield from _any(value, loc)
    elif name == "Duration":
        if not _is_duration(value):
            yield Misfit(loc, f"a duration is expected, found {_found(value)}", 'for example "5s" or "0.25s"')
    elif name == "Timestamp":
        if not _is_timestamp(value):
            yield Misfit(loc, f"a time is expected, found {_found(value)}", 'for example "2026-01-31T12:00:00Z"')
    elif name == "ListValue":
        if type(value) is not list:
            yield Misfit(loc, f"a list is expected, found {_found(value)}", 'begin each entry with "- "')
    elif type(value) is not dict:
        yield Misfit(loc, f"an object (key: value) is expected, found {_found(value)}", "write key: value")


def _any(value: object, loc: Loc) -> Iterator[Misfit]:
    if type(value) is not dict:
        yield Misfit(loc, f"an object with @type is expected, found {_found(value)}", _TYPE_HINT)
        return
    if "@type" not in value:
        yield Misfit(loc, "@type is missing", _TYPE_HINT)
        return
    url = value["@type"]
    name = url.rpartition("/")[2] if isinstance(url, str) else ""
    if fields_of(name) is None:
        near = nearest_message(name) if name else ""
        hint = f"did you mean {_TYPE_URL}{near}?" if near else _TYPE_HINT
        if ".v2." in name and not near:
            hint = "write the type of Envoy's v3 API"
        yield Misfit((*loc, "@type"), f"{str(url)[:100]!r} is not the type of a message of Envoy's", hint)
    elif name.startswith(_GOOGLE) and name.removeprefix(_GOOGLE) in _OWN_FORM:
        if "value" not in value:
            yield Misfit(loc, f"value is missing next to @type {_short(name)}", "write it as value: ...")
        else:
            yield from misfits(value["value"], name, (*loc, "value"))
    else:
        yield from misfits({key: inside for key, inside in value.items() if key != "@type"}, name, loc)


_TYPE_URL = "type.googleapis.com/"
_TYPE_HINT = f'for example "@type": {_TYPE_URL}envoy.extensions.filters.http.lua.v3.Lua'


def _is_whole(value: object, kind: str) -> bool:
    """Also in quotes, of which the decoder thinks nothing."""
    if isinstance(value, str):
        if value == "null":
            return True
        found = _NUMBER.fullmatch(value)
        if found is None or len(found[1]) > 20:
            return False
        value = int(found[1])
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        value = int(value)  # a Struct knows no other numbers: 5.0 is written as 5 again
    least, most = _WHOLE[kind]
    return type(value) is int and least <= value <= most


def _is_fraction(value: object, kind: str) -> bool:
    if isinstance(value, str):
        if value in _NOT_FINITE or value == "null":
            return True
        found = _FRACTION.fullmatch(value)
        if found is None:
            return False
        value = float(found[1])
        return math.isfinite(value) and abs(value) < _LARGEST_FRACTION[kind]
    return type(value) in (int, float) and isinstance(value, (int, float)) and abs(value) < _LARGEST_FRACTION[kind]


def _is_base64(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_whole(entry, "u") and not isinstance(entry, str) and entry <= 255 for entry in value)
    if not isinstance(value, str):
        return False
    try:
        base64.b64decode(value.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _is_duration(value: object) -> bool:
    if not isinstance(value, str) or value != value.strip():
        return False
    try:
        parse_duration(value)
    except PydanticCustomError:
        return False
    return True


_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.,][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})")


def _is_timestamp(value: object) -> bool:
    if not isinstance(value, str) or not _TIMESTAMP.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(f"{value[:19]}+00:00")
    except ValueError:
        return False
    return True


def _found(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value[:60]!r}"
    return "a list" if isinstance(value, list) else "an object"


def _short(message: str) -> str:
    return message.rpartition(".")[2]


def _known(fields: dict[str, str]) -> str:
    return f"its fields: {', '.join(sorted(fields))}" if fields else "it has no fields"

"""From a pydantic error to words a person can act on: a stable code, a message, a hint."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from meshlib.resources.model_fields import Loc, belongs_in, field_names, model_at
from meshlib.resources.types import wrong_number

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_LITERAL = re.compile(r"'([^']*)'")
_TRUE_WORDS = frozenset({"yes", "on", "y", "true"})
_FALSE_WORDS = frozenset({"no", "off", "n", "false"})

_EXPECTED = {
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object (key: value)",
    "model_type": "an object (key: value)",
    "model_attributes_type": "an object (key: value)",
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
}
_MAX_SHOWN = 60


def describe(
    error: ErrorDetails,
    model: type[BaseModel],
    loc: Loc,
    raw: str,
    *,
    secret: bool = False,
    siblings: Collection[str] = (),
) -> tuple[str, str, str]:
    """(code, message, hint) of one pydantic error.

    ``loc`` is its place as YAML keys; ``raw`` the scalar's own text when YAML had read it as a number. With ``secret``
    the value itself is left out. ``siblings`` are the fields beside one that is unknown.
    """
    kind, context = error["type"], error.get("ctx", {})
    value: object = error.get("input")
    if kind == "missing":
        parent = dotted(loc[:-1])
        return "missing-field", f"the field {loc[-1]} is missing", f"add {loc[-1]}{f' to {parent}' if parent else ''}"
    if kind == "extra_forbidden":
        return "unknown-field", f"unknown field {loc[-1]!r}", _unknown_field(model, loc, siblings)
    if kind == "literal_error":
        allowed = _LITERAL.findall(str(context.get("expected", "")))
        return "bad-enum", f"{_shown(value)} is not one of {', '.join(allowed)}", nearest_hint(value, allowed)
    if kind in _EXPECTED:
        code = "list-expected" if _EXPECTED[kind] == "a list" else "wrong-type"
        if _decoded_by_istio(kind, value, model, loc):
            code = "crd-type"
        message = f"{_EXPECTED[kind]} is expected, found {_found(value, raw, secret)}"
        return code, message, _type_hint(_EXPECTED[kind], value, raw, model, loc, secret)
    hint = str(context.get("hint", ""))
    for name, filled in context.items():
        hint = hint.replace(f"{{{name}}}", str(filled))
    if not hint:
        hint = _missing_hint(kind, value, context)
    return kind.replace("_", "-"), error["msg"], hint


_FRACTION = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def _decoded_by_istio(kind: str, value: object, model: type[BaseModel], loc: Loc) -> bool:
    """Whether it is only the API server that refuses the type: istiod's decoder reads numbers in quotes, and takes null in
    lists and maps for an entry of nothing."""
    if value is None:
        return isinstance(loc[-1], int) or model_at(model, loc[:-1]) is None
    if kind == "int_type":
        return wrong_number(value) == "crd-type"
    return kind == "float_type" and isinstance(value, str) and _FRACTION.fullmatch(value) is not None


def _missing_hint(kind: str, value: object, context: dict[str, object]) -> str:
    """A remedy where the validator that refused gave none."""
    if kind in ("bad-enum", "crd-enum"):
        return nearest_hint(value, str(context.get("allowed", "")).split(", "))
    if kind in ("wrong-type", "crd-type") and isinstance(value, str) and value.strip().lstrip("-").isdigit():
        return f"write it without quotes: {value.strip()}"
    return ""


def _type_hint(expected: str, value: object, raw: str, model: type[BaseModel], loc: Loc, secret: bool) -> str:
    if expected == "a text":
        return _text_hint(value, raw, loc, secret)
    if expected == "a list":
        if value is None:
            return "leave the field out, or write []"
        if isinstance(value, dict):
            return 'begin each entry with "- "'
        return f"write it as a list: {_key(loc)}[{_flow(value)}]"
    if expected == "true or false":
        word = str(value).lower()
        if word in _TRUE_WORDS or word in _FALSE_WORDS:
            return f"write {_key(loc)}{'true' if word in _TRUE_WORDS else 'false'}"
        return ""
    if expected.startswith("an object"):
        if value is None:
            return "there is nothing below it: check the indentation of the lines that follow"
        if isinstance(value, list):
            return 'it is one object, not a list: remove the "- "'
        owner = model_at(model, loc)
        return f"its fields: {', '.join(sorted(field_names(owner)))}" if owner is not None else ""
    if isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value.strip()):
        return f"write it without quotes: {_key(loc)}{value.strip()}"
    return ""


def _text_hint(value: object, raw: str, loc: Loc, secret: bool) -> str:
    if value is None:
        return f'leave the field out, or write {_key(loc)}""'
    if isinstance(value, (int, float)):
        shown = raw or ("true" if value is True else "false" if value is False else str(value))
        return "quote it" if secret else f'quote it: {_key(loc)}"{shown}"'
    if isinstance(value, list) and len(value) == 1:
        return "write the value itself, not a list"
    return ""


def nearest_hint(value: object, allowed: list[str]) -> str:
    """ "did you mean X?" where one of ``allowed`` is near."""
    if not isinstance(value, str):
        return ""
    by_lower = {name.lower(): name for name in allowed}
    near = difflib.get_close_matches(value.lower(), by_lower, n=1, cutoff=0.6)
    return f"did you mean {by_lower[near[0]]}?" if near else ""


def _found(value: object, raw: str, secret: bool) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return "a number" if secret else f"the number {raw or value}"
    if isinstance(value, str):
        return "a text" if secret else f"the text {_shown(value)}"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _key(loc: Loc) -> str:
    """``version: ``, for a value written as a line of YAML; "" for an entry of a list."""
    return f"{loc[-1]}: " if loc and isinstance(loc[-1], str) else ""


def _flow(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value[:_MAX_SHOWN]}"'
    return str(value)[:_MAX_SHOWN]


def _unknown_field(model: type[BaseModel], loc: Loc, siblings: Collection[str]) -> str:
    """The likeliest meaning of a field that is not there: a slip of the pen, or a field of another object."""
    name = str(loc[-1])
    owner = model_at(model, loc[:-1])
    fields = field_names(owner) if owner is not None else {}
    free = [f for f in fields if f not in siblings]  # what is given already is hardly what was meant
    near = _near(name, free, 0.8)
    if near:
        return f"did you mean {near}?"
    elsewhere = belongs_in(model, loc)
    if elsewhere:
        where, beside = elsewhere
        if beside:
            return (
                f"{name} belongs next to {beside}, in {dotted(where)}" if where else f"{name} belongs next to {beside}"
            )
        inside = f"{name} belongs inside {where[-1]}"
        return f"{inside}: {dotted(where)}.{name}" if len(where) > 1 else inside
    near = _near(name, free, 0.6) or _near(name, list(fields), 0.6)
    if near:
        return f"did you mean {near}?"
    return f"known here: {', '.join(sorted(fields))}" if fields else ""


def _near(name: str, fields: list[str], cutoff: float) -> str:
    by_lower = {f.lower(): f for f in fields}
    plain = name.lower().replace("_", "").replace("-", "")
    found = difflib.get_close_matches(plain, by_lower, n=1, cutoff=cutoff)
    return by_lower[found[0]] if found else ""


def dotted(loc: Loc) -> str:
    """``spec.http[0].route[1].weight``; keys that are not plain names are quoted: ``labels["a.io/b"]``."""
    text = ""
    for step in loc:
        if isinstance(step, int):
            text += f"[{step}]"
        elif not _NAME.fullmatch(step):
            text += '["' + step.replace("\\", "\\\\").replace('"', '\\"') + '"]'
        else:
            text += f".{step}" if text else step
    return text

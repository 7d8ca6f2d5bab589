"""From a pydantic error to words a person can act on: a stable code, a message, a hint."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

Loc = tuple[str | int, ...]

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


def describe(error: dict[str, Any], model: type[BaseModel], loc: Loc, raw: str) -> tuple[str, str, str]:
    """(code, message, hint) of one pydantic error. ``loc`` is its place as YAML keys; ``raw`` the scalar's own text when
    YAML had read it as a number."""
    kind = error["type"]
    value = error.get("input")
    if kind == "missing":
        return "missing-field", "the field is missing", ""
    if kind == "extra_forbidden":
        return "unknown-field", f"unknown field {loc[-1]!r}", _unknown(model, loc)
    if kind == "literal_error":
        allowed = error.get("ctx", {}).get("expected", "")
        return "bad-enum", f"{value!r} is none of {allowed}", ""
    if kind in _EXPECTED:
        expected = _EXPECTED[kind]
        message = f"{expected} is expected, found {_what(value, raw)}"
        if expected == "a text" and isinstance(value, (int, float)):
            shown = raw or ("true" if value is True else "false" if value is False else str(value))
            return "wrong-type", message, f'quote it: "{shown}"'
        if expected == "a list":
            return "list-expected", message, f"write it as a list: {loc[-1]}: [{_flow(value)}]"
        return "wrong-type", message, ""
    hint = error.get("ctx", {}).get("hint", "")
    if hint:
        for name, filled in error["ctx"].items():
            hint = hint.replace(f"{{{name}}}", str(filled))
    return kind.replace("_", "-"), error["msg"], hint


def _what(value: Any, raw: str) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {raw or value}"
    if isinstance(value, str):
        return f"the text {value[:60]!r}"
    return "a list" if isinstance(value, (list, tuple)) else "an object"


def _flow(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value[:60]}"'
    return str(value)[:60] if isinstance(value, (int, float)) else "..."


def _unknown(model: type[BaseModel], loc: Loc) -> str:
    name = str(loc[-1])
    owner = _model_at(model, loc[:-1])
    fields = list(_yaml_names(owner)) if owner is not None else []
    for depth in range(len(loc) - 2, -1, -1):
        parent = _model_at(model, loc[:depth])
        if parent is not None and name in _yaml_names(parent):
            return f"{name} belongs beside {_last_key(loc[: depth + 1])}, in {dotted(loc[:depth])}"
    for field, child in _child_models(owner):
        if name in _yaml_names(child):
            return f"{name} belongs inside {field}"
    near = difflib.get_close_matches(name, fields, n=1, cutoff=0.6)
    if not near:
        lowered = {f.lower(): f for f in fields}
        near = [lowered[name.lower()]] if name.lower() in lowered else []
    if near:
        return f"did you mean {near[0]}?"
    return f"known here: {', '.join(sorted(fields))}" if fields else ""


def _last_key(loc: Loc) -> str:
    return str(next((step for step in reversed(loc) if isinstance(step, str)), ""))


def dotted(loc: Loc) -> str:
    """``spec.http[0].route[1].weight``."""
    text = ""
    for step in loc:
        if isinstance(step, int):
            text += f"[{step}]"
        elif "." in step or "/" in step:
            text += f"[{step!r}]"
        else:
            text += f".{step}" if text else step
    return text


def _yaml_names(model: type[BaseModel]) -> dict[str, str]:
    return {info.alias or name: name for name, info in model.model_fields.items()}


def _model_at(model: type[BaseModel] | None, loc: Loc) -> type[BaseModel] | None:
    """The model of the object at ``loc``."""
    here: Any = model
    for step in loc:
        if isinstance(here, type) and issubclass(here, BaseModel):
            if not isinstance(step, str):
                return None
            names = _yaml_names(here)
            attribute = names.get(step) or (step if step in here.model_fields else None)
            if attribute is None:
                return None
            here = here.model_fields[attribute].annotation
        else:
            here = _element(here)
        here = _strip_optional(here)
    return here if isinstance(here, type) and issubclass(here, BaseModel) else None


def _strip_optional(annotation: Any) -> Any:
    args = [a for a in get_args(annotation) if a is not type(None)]
    if type(None) in get_args(annotation) and len(args) == 1:
        return args[0]
    return annotation


def _element(annotation: Any) -> Any:
    args = get_args(annotation)
    return args[-1] if args else None


def _child_models(model: type[BaseModel] | None) -> Iterator[tuple[str, type[BaseModel]]]:
    if model is None:
        return
    for name, info in model.model_fields.items():
        inner = _strip_optional(info.annotation)
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            inner = _strip_optional(_element(inner))
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield info.alias or name, inner

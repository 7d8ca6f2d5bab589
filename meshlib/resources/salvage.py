"""What can be read of a document that has errors: good enough to say what others refer to, never to be served."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from meshlib.resources.base import Resource
from meshlib.resources.model_fields import Loc, is_model


def salvage(model: type[Resource], value: Mapping[str, object]) -> Resource:
    """A resource of ``model`` without what is wrong: such fields are as if they were not there, and a required one may be
    None. Checks that look at several fields are not made. ``lost_fields`` of it are the places of what was left out."""
    lost: set[Loc] = set()
    made = _object(model, value, (), lost)
    assert isinstance(made, Resource)
    made._lost = frozenset(lost)
    return made


def _object(model: type[BaseModel], value: Mapping[str, object], loc: Loc, lost: set[Loc]) -> BaseModel:
    values: dict[str, object] = {}
    for name, info in model.model_fields.items():
        key = info.alias or name
        if key in value:
            found = _part(_whole(info), value[key], (*loc, key), lost)
            if found is not None:  # else its default, as if it were not there
                values[name] = found
    given = set(values)
    for name, info in model.model_fields.items():
        if name not in values and info.is_required():
            inner = _bare(info.annotation)
            values[name] = _object(inner, {}, (*loc, info.alias or name), lost) if is_model(inner) else None
    return model.model_construct(given, **values)


def _part(annotation: object, value: object, loc: Loc, lost: set[Loc]) -> object:
    inner = _bare(annotation)
    if is_model(inner) and isinstance(value, Mapping):
        try:
            return inner.model_validate(value)
        except ValidationError:
            return _object(inner, value, loc, lost)
    if get_origin(inner) is list and isinstance(value, list):
        element = get_args(inner)[0]
        entries = [_part(element, entry, (*loc, index), lost) for index, entry in enumerate(value)]
        model = _bare(element)
        if is_model(model):  # what follows keeps its position
            return [_object(model, {}, loc, lost) if entry is None else entry for entry in entries]
        return [entry for entry in entries if entry is not None]
    if get_origin(inner) is dict and isinstance(value, Mapping):
        element = get_args(inner)[1]
        parts = {str(key): _part(element, entry, (*loc, str(key)), lost) for key, entry in value.items()}
        return {key: entry for key, entry in parts.items() if entry is not None}
    try:
        return _adapter(annotation).validate_python(value)
    except ValidationError:
        if inner is str and isinstance(value, str):
            return value  # refused for what it says; still it says what is meant
        lost.add(loc)
        return None


def _whole(info: FieldInfo) -> object:
    """A field's type with the checks that pydantic has taken off it."""
    whole: object = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
    return whole


def _bare(annotation: object) -> object:
    """Without None, and without the checks around a type."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
            continue
        args = get_args(annotation)
        rest = [a for a in args if a is not type(None)]
        if len(rest) == 1 and len(rest) < len(args):
            annotation = rest[0]
            continue
        return annotation


@functools.lru_cache(maxsize=4096)
def _adapter(annotation: object) -> TypeAdapter[object]:
    return TypeAdapter[object](annotation)  # type: ignore[arg-type]  # annotations of fields are types, in whatever form

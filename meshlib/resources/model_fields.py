"""Looking up fields in the models: which object is at a path, and where a misplaced field belongs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TypeGuard, get_args, get_origin

from pydantic import BaseModel

Loc = tuple[str | int, ...]
"""A place in a document: keys and list positions from its top."""


def field_names(model: type[BaseModel]) -> dict[str, str]:
    """YAML name -> attribute of every field."""
    return {info.alias or name: name for name, info in model.model_fields.items()}


def model_at(model: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    """The model of the object at ``loc``, None when there is none (a scalar, a map of texts, an unknown field)."""
    here: object = model
    for step in loc:
        if is_model(here):
            names = field_names(here)
            attribute = names.get(str(step), str(step))
            if attribute not in here.model_fields:
                return None
            here = here.model_fields[attribute].annotation
        else:
            here = _element(here)
        here = _without_none(here)
    return here if is_model(here) else None


def belongs_in(model: type[BaseModel], loc: Loc) -> tuple[Loc, str] | None:
    """Where the field ``loc[-1]`` would be known: (an object around it, the key that it would stand beside), or
    (an object that is not around it, ""). The nearest one counts. None when no object of this kind has it."""
    name = str(loc[-1])
    parent = loc[:-1]
    for depth in range(len(parent) - 1, -1, -1):
        around = model_at(model, parent[:depth])
        if around is not None and name in field_names(around):
            return parent[:depth], _last_key(parent[: depth + 1])
    for depth in range(len(parent), -1, -1):
        around = model_at(model, parent[:depth])
        if around is None:
            continue
        for steps, inside in _inside(around):
            if name in field_names(inside):
                return (*parent[:depth], *steps), ""
    return None


def _inside(model: type[BaseModel]) -> Iterator[tuple[Loc, type[BaseModel]]]:
    """The objects inside a model, nearest first, each kind once."""
    seen = {model}
    waiting: deque[tuple[Loc, type[BaseModel]]] = deque([((), model)])
    while waiting:
        steps, here = waiting.popleft()
        for name, attribute in field_names(here).items():
            annotation = _without_none(here.model_fields[attribute].annotation)
            while get_origin(annotation) in (list, dict, tuple):
                annotation = _without_none(_element(annotation))
            if is_model(annotation) and annotation not in seen:
                seen.add(annotation)
                child = ((*steps, name), annotation)
                waiting.append(child)
                yield child


def is_model(annotation: object) -> TypeGuard[type[BaseModel]]:
    """Whether a field of this type holds one object of a model."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _without_none(annotation: object) -> object:
    args = get_args(annotation)
    rest = [a for a in args if a is not type(None)]
    return rest[0] if len(rest) == 1 and len(rest) < len(args) else annotation


def _element(annotation: object) -> object:
    args = get_args(annotation)
    return args[-1] if args else None


def _last_key(loc: Loc) -> str:
    return str(next((step for step in reversed(loc) if isinstance(step, str)), ""))

"""Field paths of Istio's schema and of our models, to compare them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

SHARED = Path(__file__).parents[2].parent / "shared"
REFERENCE = SHARED / "reference" / "istio-crd-schemas.yaml"
CONDENSED = Path(__file__).parents[1] / "resources" / "reference_fields.txt"


def schema_fields(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """``http.match.uri.exact`` for every field of an OpenAPI schema; maps and lists add no level."""
    while "properties" not in schema:
        inner = schema.get("items") or schema.get("additionalProperties")
        if not isinstance(inner, dict):
            return
        schema = inner
    for name, child in schema["properties"].items():
        here = f"{path}.{name}" if path else name
        yield here
        yield from schema_fields(child, here)


def model_fields(model: type[BaseModel], path: str = "", above: tuple[type, ...] = ()) -> Iterator[str]:
    """The same for a model, by YAML names."""
    for name, info in model.model_fields.items():
        alias = info.alias or name
        here = f"{path}.{alias}" if path else alias
        yield here
        for inner in _models_in(info.annotation):
            if inner not in above:
                yield from model_fields(inner, here, (*above, inner))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for argument in get_args(annotation):
        yield from _models_in(argument)

"""How ``meshlib/resources/crd/schemas.json`` is made: what Istio's CRDs ask beyond types, as one table of all kinds.

    make crds CRDS=crd-all.gen.yaml       the CRDs of an Istio release (manifests/charts/base/files)

or any file of the form ``kind: {spec: schema}``. Left out is what the models ask as well: types, enums, required fields,
unknown fields. Rules written in CEL are named by ``digest_of``; ``meshlib/resources/crd/rules.py`` has a check for each, and a
test says when one is new. Equal parts of schemas are written once.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator

from meshlib.resources import types
from meshlib.resources.kinds import KINDS, all_models
from meshlib.resources.model_fields import Loc, field_names, model_at

FILE = Path(__file__).parents[2] / "meshlib" / "resources" / "crd" / "schemas.json"


def _function(kind: Any) -> Callable[[Any], Any]:
    return next(part.func for part in kind.__metadata__ if isinstance(part, BeforeValidator))


BOUNDS = (
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minimum",
    "maximum",
)
"""Copied as they are."""


RANGES: dict[Callable[[Any], Any], tuple[int, int]] = {
    types._port: (1, 65535),
    types._optional_port: (0, 65535),
    types._percent_int: (0, 100),
    _function(types.Int32): (-(2**31), 2**31 - 1),
    _function(types.Count): (0, 2**31 - 1),
    _function(types.UInt32): (0, 2**32 - 1),
}
"""What validators of the models let through."""

PORT_RULE = "3bf4e859ad73"
"""1..65535"""

DURATION = types._positive_duration


def digest_of(rule: str) -> str:
    """The name of a rule: spaces and line ends do not matter."""
    return hashlib.sha256(" ".join(rule.split()).encode()).hexdigest()[:12]


def schemas_in(text: str) -> dict[str, Any]:
    """The schema of ``spec`` of every kind, from CRDs (the newest served version counts) or from a file of specs."""
    found: dict[str, Any] = {}
    for document in yaml.load_all(text, Loader=yaml.CSafeLoader):
        if not isinstance(document, dict):
            continue
        if document.get("kind") == "CustomResourceDefinition":
            spec = document["spec"]
            version = next(v for v in spec["versions"] if v.get("served", True))
            found[spec["names"]["kind"]] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
        elif "kind" not in document:
            found |= {kind: entry["spec"] for kind, entry in document.items()}
    return found


def table(schemas: dict[str, Any]) -> dict[str, Any]:
    """``{"kinds": {kind: number of its node}, "nodes": [...]}``"""
    return _Table().made(schemas)


class _Table:
    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.numbers: dict[str, int] = {}

    def made(self, schemas: dict[str, Any]) -> dict[str, Any]:
        kinds = {kind: self.node(schema, kind, ("spec",)) for kind, schema in sorted(schemas.items())}
        return {"kinds": {kind: number for kind, number in kinds.items() if number is not None}, "nodes": self.nodes}

    def node(self, schema: dict[str, Any], kind: str, loc: Loc) -> int | None:
        """The number of the node of a schema, None when it asks nothing that the model at ``loc`` does not ask as well."""
        checked = set(_validators(kind, loc))
        made: dict[str, Any] = {}
        low, high = next((RANGES[function] for function in checked if function in RANGES), (-math.inf, math.inf))
        made |= _bounds(schema, low, high)
        rules = [digest_of(rule["rule"]) for rule in schema.get("x-kubernetes-validations", ())]
        if (low >= 1 and high <= 65535) and rules == [PORT_RULE]:
            rules = []
        if rules and DURATION not in checked:
            made["rules"] = rules
        groups = [_one_of(part) for part in (schema, *schema.get("allOf", ())) if "oneOf" in part]
        if groups and _model(kind, loc) is not types.StringMatch:
            made["oneOf"] = groups
        if missing := [name for name in schema.get("required", ()) if not _is_required(kind, (*loc, name))]:
            made["required"] = missing
        if "x-kubernetes-list-map-keys" in schema:
            made["unique"] = schema["x-kubernetes-list-map-keys"]
        fields = {name: self.node(inner, kind, (*loc, name)) for name, inner in schema.get("properties", {}).items()}
        if fields := {name: number for name, number in fields.items() if number is not None}:
            made["fields"] = fields
        for name, key, step in (("items", "items", 0), ("values", "additionalProperties", "*")):
            inner = schema.get(key)
            if isinstance(inner, dict) and (number := self.node(inner, kind, (*loc, step))) is not None:
                made[name] = number
        return self._number(made) if made else None

    def _number(self, made: dict[str, Any]) -> int:
        text = json.dumps(made, sort_keys=True)
        if text not in self.numbers:
            self.numbers[text] = len(self.nodes)
            self.nodes.append(made)
        return self.numbers[text]


def _model(kind: str, loc: Loc) -> type[BaseModel] | None:
    return model_at(all_models()[kind], loc) if kind in KINDS else None


def _is_required(kind: str, loc: Loc) -> bool:
    owner = _model(kind, loc[:-1])
    attribute = field_names(owner).get(str(loc[-1])) if owner is not None else None
    return owner is not None and attribute is not None and owner.model_fields[attribute].is_required()


def _validators(kind: str, loc: Loc) -> Iterator[Any]:
    """The functions that look at a field before pydantic does."""
    owner = _model(kind, loc[:-1])
    attribute = field_names(owner).get(str(loc[-1])) if owner is not None else None
    if owner is not None and attribute is not None:
        info = owner.model_fields[attribute]
        for part in (*info.metadata, *_annotations(info.annotation)):
            if isinstance(part, BeforeValidator):
                yield part.func


def _annotations(annotation: Any) -> Iterator[Any]:
    for argument in get_args(annotation) if get_origin(annotation) not in (list, dict) else ():
        yield argument
        yield from _annotations(argument)


def _bounds(schema: dict[str, Any], low: float, high: float) -> dict[str, Any]:
    """Those that are narrower than the model's range."""
    made = {name: schema[name] for name in BOUNDS if name in schema}
    if schema.get("format") == "int32":
        made["minimum"] = max(made.get("minimum", -(2**31)), -(2**31))
        made["maximum"] = min(made.get("maximum", 2**31 - 1), 2**31 - 1)
    if made.get("minimum", -math.inf) <= low:
        made.pop("minimum", None)
    if made.get("maximum", math.inf) >= high:
        made.pop("maximum", None)
    return made


def _one_of(schema: dict[str, Any]) -> list[str]:
    """The fields of which at most one may be there: protobuf's oneof."""
    return [branch["required"][0] for branch in schema["oneOf"] if "required" in branch]


def written(made: dict[str, Any]) -> str:
    """A line a node, so that changes can be read."""
    lines = ",\n".join(json.dumps(node, ensure_ascii=True) for node in made["nodes"])
    return f'{{"kinds": {json.dumps(made["kinds"])},\n"nodes": [\n{lines}\n]}}\n'


if __name__ == "__main__":
    FILE.write_text(written(table(schemas_in(Path(sys.argv[1]).read_text()))))

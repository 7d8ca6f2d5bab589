"""The fields that a resource sets, each with its row of the table; and the notice about those without effect."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel

from meshlib.compiler.semantics.table import HONOURED, Row, Table
from meshlib.compiler.semantics.tables import EXTENSIONS, SAME_AS, TABLES
from meshlib.pace import take_turns
from meshlib.problems import Problem, Severity

if TYPE_CHECKING:
    from meshlib.resources.base import Resource

Loc = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """A field that is set: where in the document, its path without list positions, its value, and its row."""

    loc: Loc
    path: str
    value: object
    row: Row


def fields(resource: Resource) -> Iterator[Field]:
    """Every field that the resource sets, in the order of the model; none of kinds that have no table."""
    table = _table_of(resource)
    if table is not None:
        yield from _fields(_spec(resource), _WHERE.get(resource.kind, ("spec",)), "", table)


_WHERE: dict[str, Loc] = {"ConfigMap": ("data", "mesh")}
"""Where in the document a resource says it, if not in ``spec``."""


def _table_of(resource: Resource) -> Table | None:
    return TABLES.get(SAME_AS.get(resource.kind, resource.kind))


def _spec(resource: Resource) -> BaseModel:
    """What a resource of a kind that has a table says."""
    spec = getattr(resource, "spec", None)
    assert isinstance(spec, BaseModel), f"{resource.kind} has a table and no spec"
    return spec


def _fields(node: BaseModel, loc: Loc, path: str, table: Table) -> Iterator[Field]:
    for name in type(node).model_fields:
        if name not in node.model_fields_set:
            continue
        value = getattr(node, name)
        if value is None:
            continue
        key = type(node).model_fields[name].alias or name
        below = f"{path}.{key}" if path else key
        yield from _values(value, (*loc, key), below, table)


def _values(value: object, loc: Loc, path: str, table: Table) -> Iterator[Field]:
    if isinstance(value, BaseModel) and table.goes_below(path):
        yield from _fields(value, loc, path, table)
    elif isinstance(value, list) and table.goes_below(path):
        for position, item in enumerate(value):
            yield from _values(item, (*loc, position), path, table)
    else:
        scalar = value if isinstance(value, (str, int, float, bool)) else None
        row = table.row(path, scalar)
        assert row is not None, f"{table.kind} {path} has no row"  # a test walks every field of every model
        yield Field(loc, path, value, row)


def _inert_rows(resource: Resource) -> Iterator[tuple[str, Row]]:
    """The fields that are set and without effect; what is nowhere without effect is not looked through."""
    table = _table_of(resource)
    if table is not None:
        yield from _InertRows(table).of(_spec(resource))


class _Fields:
    """The fields of a model, at a path, that may be without effect or have such below: name, path, whether it goes on below."""

    __slots__ = ("names", "worth")

    def __init__(self, model: type[BaseModel], path: str, table: Table) -> None:
        paths = [
            (name, f"{path}.{info.alias or name}" if path else info.alias or name)
            for name, info in model.model_fields.items()
        ]
        self.worth = [(name, below, table.goes_below(below)) for name, below in paths if table.may_be_inert(below)]
        self.names = frozenset(name for name, _, _ in self.worth)


@functools.cache
def _fields_at(table: Table, model: type[BaseModel], path: str) -> _Fields:
    """The same for all resources of a kind."""
    return _Fields(model, path, table)


class _InertRows:
    """Looks through a resource for fields without effect. Of each place the object that was looked through last is known:
    rules have parts in common, each of which needs one look."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._last: dict[_Fields, BaseModel] = {}
        self._found: list[tuple[str, Row]] = []

    def of(self, spec: BaseModel) -> list[tuple[str, Row]]:
        """Their paths and rows."""
        self._look(spec, "")
        return self._found

    def _look(self, node: BaseModel, path: str) -> None:
        take_turns()
        fields = _fields_at(self._table, type(node), path)
        given = node.model_fields_set
        if fields.names.isdisjoint(given) or self._last.get(fields) is node:
            return
        self._last[fields] = node
        for name, below, goes_on in fields.worth:
            if name in given and (value := getattr(node, name)) is not None:
                for entry in value if isinstance(value, list) and goes_on else (value,):
                    if goes_on and isinstance(entry, BaseModel):
                        self._look(entry, below)
                        continue
                    row = self._table.row(below, entry if isinstance(entry, (str, int, float, bool)) else None)
                    if row is not None and row.inert:
                        self._found.append((below, row))


def inert_fields(resources: Sequence[Resource]) -> Iterator[Problem]:
    """A notice for each resource that sets fields without effect on HTTP clients, naming them."""
    for resource in resources:
        take_turns()
        if resource.kind in EXTENSIONS:
            yield _notice(resource, f"{resource.kind} loads and has no effect: {EXTENSIONS[resource.kind]}", "")
            continue
        reasons: dict[str, list[str]] = {}
        for path, row in _inert_rows(resource):
            paths = reasons.setdefault(row.reason, [])
            if path not in paths:
                paths.append(path)
        if reasons:
            said = "; ".join(f"{', '.join(paths)} ({reason})" for reason, paths in reasons.items())
            yield _notice(resource, f"no effect: {said}", "meshlib coverage lists every field")


def _notice(resource: Resource, message: str, hint: str) -> Problem:
    origin = resource.origin
    return Problem("no-effect", Severity.NOTICE, origin.file, origin.line, origin.column, resource.id, message, hint)


def all_honoured(found: Sequence[Field]) -> bool:
    """Whether nothing is left to explain."""
    return all(field.row.status == HONOURED for field in found)

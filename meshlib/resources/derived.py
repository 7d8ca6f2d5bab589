"""Resources that nobody has written, made of one that somebody has: what is said of them is said of that one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from meshlib.resources.document import Positions
from meshlib.resources.gateway import Gateway
from meshlib.resources.virtual_service import VirtualService

if TYPE_CHECKING:
    from meshlib.resources.base import Resource

Loc = tuple[str | int, ...]


class DerivedGateway(Gateway):
    """A Gateway of another resource, by whose name people know it."""

    _of: str = ""
    _fields: Mapping[Loc, Loc] = {}

    @property
    def id(self) -> str:
        """That of the resource it is made of."""
        return self._of

    def as_written(self, loc: Loc) -> Loc:
        """The field of that resource which says what this one's field does; the nearest around it."""
        return nearest(loc, self._fields)


class DerivedVirtualService(VirtualService):
    """A VirtualService of another resource."""

    _of: str = ""

    @property
    def id(self) -> str:
        """The resource it is made of, and what tells it from others of the same one."""
        return self._of


class MovedPositions(Positions):
    """Places of fields in the resource that they were made of."""

    __slots__ = ("_fields", "_source")

    def __init__(self, source: Resource, fields: Mapping[Loc, Loc]) -> None:
        super().__init__(source.origin.line, source.origin.column)
        self._source = source
        self._fields = fields

    def place(self, path: Loc) -> tuple[int, int]:
        """Of the field of ``source`` that is behind this one, or behind the nearest around it."""
        return self._source.place_of(nearest(path, self._fields))


def nearest(loc: Loc, fields: Mapping[Loc, Loc]) -> Loc:
    """What ``fields`` has for a field, or for the nearest around it; () for none."""
    for length in range(len(loc), -1, -1):
        found = fields.get(loc[:length])
        if found is not None:
            return found
    return ()


def derived_gateway(source: Resource, made: Mapping[str, object], fields: Mapping[Loc, Loc]) -> DerivedGateway:
    """``made`` is its YAML."""
    found = DerivedGateway.model_validate(made)
    found._origin = source.origin
    found._positions = MovedPositions(source, fields)
    found._of = source.id
    found._fields = fields
    return found


def derived_virtual_service(
    source: Resource, name: str, made: Mapping[str, object], fields: Mapping[Loc, Loc]
) -> DerivedVirtualService:
    """``made`` is its YAML; ``name`` tells it from others of the same source."""
    found = DerivedVirtualService.model_validate(made)
    found._origin = source.origin
    found._positions = MovedPositions(source, fields)
    found._of = f"{source.id} ({name})"
    return found

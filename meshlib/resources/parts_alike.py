"""Entries of a long list that have parts alike, as thousands of rules have that lead to the same service: each part is checked
once, and is one object in all of them."""

from __future__ import annotations

import marshal
from collections.abc import Mapping

from pydantic import BaseModel

from meshlib.resources.base import Model
from meshlib.resources.model_fields import field_names
from meshlib.resources.values import Value

_FORMAT = 2  # the last that does not depend on which objects are shared
_MOST = 128
"""Parts of a field that are remembered. A field with so many that are all different is not looked at any more."""

Part = Model | list[Model]


class _Field:
    """A field of the entries: what is known of its values, by what they say."""

    __slots__ = ("attribute", "found", "parts")

    def __init__(self, attribute: str) -> None:
        self.attribute = attribute
        self.parts: dict[bytes, Part] = {}
        self.found = 0


class PartsAlike:
    """Checks the entries of one list, one after the other."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model
        self._fields = {name: _Field(attribute) for name, attribute in field_names(model).items()}
        self._new: list[tuple[str, bytes]] = []

    def checked(self, entry: Mapping[str, Value]) -> BaseModel:
        """The model of an entry. Raises ValidationError."""
        fields = self._fields
        self._new.clear()
        given: dict[str, Value | Part] = {}
        for name, value in entry.items():
            field = fields.get(name) if type(value) is list or type(value) is dict else None
            if field is None:
                given[name] = value
                continue
            try:
                said = marshal.dumps(value, _FORMAT)
            except ValueError:  # nested too deep for it, or models already
                given[name] = value
                continue
            part = field.parts.get(said)
            if part is None:
                self._new.append((name, said))
                given[name] = value
            else:
                field.found += 1
                given[name] = part
        return self._model.model_validate(given)

    def note(self, made: BaseModel) -> None:
        """What the entry that was checked last has become."""
        for name, said in self._new:
            field = self._fields[name]
            part: object = getattr(made, field.attribute)
            if isinstance(part, Model) or (type(part) is list and part and isinstance(part[0], Model)):
                field.parts[said] = part
            else:
                del self._fields[name]
                continue
            if len(field.parts) >= _MOST:
                field.parts.clear()
                if field.found < _MOST:
                    del self._fields[name]
                field.found = 0

"""Envoy's messages as an EnvoyFilter writes them, read field by field: what is there, what has
another type, what was not read."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic_core import PydanticCustomError

from meshlib.resources.types import parse_duration

_TYPED_STRUCT = ("udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct")


class NotActedOn(Exception):
    """A patch, or a part of it, without effect here; its text says why."""


def snake(value: object) -> object:
    """Protobuf's JSON takes both spellings of a field."""
    if isinstance(value, Mapping):
        return {
            key if not isinstance(key, str) else re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", key).lower(): snake(inside)
            for key, inside in value.items()
        }
    return [snake(entry) for entry in value] if isinstance(value, list) else value


def typed(config: object) -> tuple[str, dict[str, object]]:
    """Type and fields of an Any, through a TypedStruct. Raises ``NotActedOn``."""
    if not isinstance(config, Mapping):
        raise NotActedOn("its value has no typed_config")
    kind = str(config.get("@type", "")).rpartition("/")[2]
    fields: object = {key: value for key, value in config.items() if key != "@type"}
    if kind in _TYPED_STRUCT:
        kind = str(config.get("type_url", config.get("typeUrl", ""))).rpartition("/")[2]
        fields = config.get("value") or {}
    found = snake(fields)
    if not isinstance(found, dict):
        raise NotActedOn(f"{kind} is not an object")
    return kind, found


class Message:
    """One message; ``where`` names it for people. All methods raise ``NotActedOn`` for values of another type."""

    def __init__(self, fields: Mapping[str, object], where: str) -> None:
        self.fields = fields
        self.where = where
        self._read: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether the field is set."""
        self._read.add(name)
        return self.fields.get(name) is not None

    def rest(self) -> list[str]:
        """The fields that are set and were not asked for."""
        return sorted(
            name for name, value in self.fields.items() if name not in self._read and value not in (None, False, [], {})
        )

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        value = self.fields.get(name) if self.has(name) else default
        if not isinstance(value, str):
            raise NotActedOn(f"{self.where}.{name} {value!r} is not a text")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """A bool, or BoolValue."""
        value = self.fields.get(name) if self.has(name) else default
        if not isinstance(value, bool):
            raise NotActedOn(f"{self.where}.{name} {value!r} is neither true nor false")
        return value

    def whole(self, name: str, default: int = 0, low: int = 0, high: int = 2**32 - 1) -> int:
        """A whole number, also in quotes."""
        value = self.fields.get(name) if self.has(name) else default
        if isinstance(value, str) and value.isascii() and value.lstrip("-").isdigit() and len(value) < 20:
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise NotActedOn(f"{self.where}.{name} {value!r} is not a whole number from {low} to {high}")
        return value

    def choice(self, name: str, values: tuple[str, ...]) -> str:
        """An enum, by name or number; the first of ``values`` when it is not set."""
        value = self.fields.get(name) if self.has(name) else values[0]
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(values):
            return values[value]
        if not isinstance(value, str) or value not in values:
            raise NotActedOn(f"{self.where}.{name} {value!r} is not one of {', '.join(values)}")
        return value

    def seconds(self, name: str) -> float | None:
        """A duration."""
        if not self.has(name):
            return None
        try:
            return parse_duration(self.fields[name])
        except PydanticCustomError as error:
            raise NotActedOn(
                f"{self.where}.{name} {self.fields[name]!r} is not a valid duration such as 60s"
            ) from error

    def message(self, name: str) -> Message | None:
        """A message inside."""
        if not self.has(name):
            return None
        return self._inside(self.fields[name], name)

    def messages(self, name: str) -> list[Message]:
        """A list of them."""
        if not self.has(name):
            return []
        found = self.fields[name]
        if not isinstance(found, list):
            raise NotActedOn(f"{self.where}.{name} is not a list")
        return [self._inside(entry, f"{name}[{index}]") for index, entry in enumerate(found)]

    def _inside(self, value: object, name: str) -> Message:
        if not isinstance(value, Mapping):
            raise NotActedOn(f"{self.where}.{name} is not an object")
        return Message(value, f"{self.where}.{name}" if self.where else name)

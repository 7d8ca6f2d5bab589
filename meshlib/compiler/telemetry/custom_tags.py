"""``customTags``, of Telemetry and of a proxy's tracing: attributes that every span has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from meshlib.compiler.access_log.format import FormatError, parse
from meshlib.compiler.telemetry.providers import where
from meshlib.policy.telemetry_settings import CustomTag

if TYPE_CHECKING:
    from meshlib.resources.base import Resource
    from meshlib.resources.telemetry import CustomTag as WrittenTag

Loc = tuple[str | int, ...]


def custom_tags(tags: Mapping[str, WrittenTag], resource: Resource, loc: Loc) -> tuple[CustomTag, ...]:
    """By name."""
    return tuple(
        found for name, tag in sorted(tags.items()) if (found := _tag(name, tag, where(resource, (*loc, name))))
    )


def _tag(name: str, tag: WrittenTag, place: str) -> CustomTag | None:
    """None of one that says nothing, or whose format is none."""
    if tag.literal is not None:
        return CustomTag(name, "literal", tag.literal.value or "", "", place)
    if tag.environment is not None:
        return CustomTag(name, "environment", tag.environment.name or "", tag.environment.default_value or "", place)
    if tag.header is not None:
        return CustomTag(name, "header", (tag.header.name or "").lower(), tag.header.default_value or "", place)
    if tag.formatter is not None:
        try:
            parse(tag.formatter.value or "")
        except FormatError:
            return None
        return CustomTag(name, "formatter", tag.formatter.value or "", "", place)
    return None

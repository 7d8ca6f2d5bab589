"""A copy of what Python code hands in as a resource."""

from __future__ import annotations

from collections.abc import Mapping

from meshlib.resources.plain_tree import MAX_DEPTH


class TooDeep(Exception):
    """It is nested deeper than resources are, or inside itself."""


def plain_copy(value: object, depth: int = 0) -> object:
    """A copy made of dicts and lists; other values are left for the models to judge. Raises TooDeep."""
    if depth > MAX_DEPTH:
        raise TooDeep
    if isinstance(value, Mapping):
        return {key: plain_copy(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_copy(item, depth + 1) for item in value]
    return value

"""What lists of objects that are handed in one after the other (``mesh.apply``) have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import is_
from typing import Any

from meshlib.changes import Differences, differences
from meshlib.resources.base import Resource
from meshlib.resources.kinds import split_api_version


class ObjectMemo:
    """Resources that are the same objects as the last time are not looked at again; dicts that say the same as then are not
    checked again, and give the same resources. Not for several threads at once."""

    def __init__(self) -> None:
        self._accepted: list[Resource] = []
        self._keys: set[tuple[str, str]] | None = None
        self._differences: Differences[Resource] | None = None
        self._by_content: dict[bytes, Resource] = {}

    def accepted(self, objects: list[Any]) -> list[Resource] | None:
        """The same list, if these are all resources, none of them there twice; None: they must be looked at."""
        found = differences(self._accepted, objects)
        new = [objects[i] for i in found.come]
        if not all(isinstance(resource, Resource) for resource in new):
            return None
        keys, old_keys = _keys(new), _keys(self._accepted[i] for i in found.gone)
        added = set(keys)
        if len(added) < len(keys):
            return None
        if not added.issubset(old_keys):
            if self._keys is None:
                self._keys = set(_keys(self._accepted))
            if not self._keys.isdisjoint(added.difference(old_keys)):
                return None
        if self._keys is not None:
            self._keys.difference_update(old_keys)
            self._keys |= added
        self._accepted = objects
        self._differences = found
        return objects

    def take_differences(self) -> Differences[Resource] | None:
        """How the list that was accepted last differs from the one before; told once."""
        found, self._differences = self._differences, None
        return found

    def same_as_before(self, content: bytes | None) -> Resource | None:
        """What a dict of this hash was found to be the last time, if there was nothing to be said of it."""
        return None if content is None else self._by_content.get(content)

    def note(self, objects: list[Any], resources: Sequence[Resource], by_content: dict[bytes, Resource]) -> None:
        """A list has been looked at, and these resources are what it gave."""
        self._by_content = by_content
        given = len(objects) == len(resources) and all(map(is_, objects, resources))
        self._accepted = objects if given else []
        self._keys = None


def _keys(resources: Iterable[Resource]) -> list[tuple[str, str]]:
    """What of each may be there once only."""
    return [(split_api_version(r.api_version)[0], r.id) for r in resources if r.name]

"""What a registry has once, however many meshes share it, and whichever threads make them at the same time."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

Kept = TypeVar("Kept")

_registering = threading.RLock()  # a registry may ask its collectors while one is registered
os.register_at_fork(after_in_child=_registering._at_fork_reinit)  # type: ignore[attr-defined]  # its holder may not exist there


class RegisteredOnce(Generic[Kept]):
    """Made, and registered, by ``make`` for the first who asks for that of a registry; what it raises is raised, and nothing is
    kept. Goes when the registry goes."""

    __slots__ = ("_kept", "_make")

    def __init__(self, make: Callable[[CollectorRegistry], Kept]) -> None:
        self._make = make
        self._kept: weakref.WeakKeyDictionary[CollectorRegistry, Kept] = weakref.WeakKeyDictionary()

    def __call__(self, registry: CollectorRegistry) -> Kept:
        """That of a registry."""
        found = self._kept.get(registry)
        if found is None:
            with _registering:
                found = self._kept.get(registry)  # another thread may have made it since
                if found is None:
                    found = self._kept[registry] = self._make(registry)
        return found

    def all(self) -> list[Kept]:
        """Those of all registries."""
        with _registering:  # a dictionary does not grow while it is listed
            return list(self._kept.values())

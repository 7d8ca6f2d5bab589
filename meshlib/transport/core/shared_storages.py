"""The storages that circuit breakers of a mesh share with a fleet. Imports Redis's client only when one is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshlib.transport.core.shared_breaker import SharedStorage


class SharedStorages:
    """The shared storages of a mesh, one for each URL and service."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], SharedStorage] = {}

    def storage(self, settings: Any, host: str) -> SharedStorage | None:
        """The storage of a breaker; None: in this process's memory."""
        if not settings.redis:
            return None
        from meshlib.transport.core.shared_breaker import SharedStorage

        key = (settings.redis, host)
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = SharedStorage(settings.redis, host)
        return found

    @property
    def errors(self) -> int:
        """Conversations with Redis that failed."""
        return sum(storage.errors for storage in list(self._made.values()))

    def after_fork(self) -> None:
        for storage in self._made.values():
            storage.after_fork()

    def close(self) -> None:
        for storage in self._made.values():
            storage.close()

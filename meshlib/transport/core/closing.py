"""What waits inside a mesh, woken when the mesh is closed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


class Closing:
    """Whether the mesh is ``closed``, and whom to wake when it comes to that. May be used from any thread."""

    def __init__(self) -> None:
        self.closed = False
        self._wakes: dict[object, Callable[[], None]] = {}
        self._event = threading.Event()

    @contextlib.contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Call ``wake`` if the mesh is closed before this is left, or was already. Once or twice, from any thread."""
        key = object()
        self._wakes[key] = wake
        try:
            if self.closed:
                wake()
            yield
        finally:
            self._wakes.pop(key, None)

    def sleep(self, seconds: float) -> None:
        """Block this thread for ``seconds`` of real time, or until the mesh is closed."""
        self._event.wait(min(seconds, threading.TIMEOUT_MAX))

    def close(self) -> None:
        """Wake everybody."""
        self.closed = True
        self._event.set()
        for wake in list(self._wakes.values()):
            wake()

"""Where a process of the demo runs, and how others reach it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

LOOPBACK = "127.0.0.1"


class Place(Protocol):
    """``host`` is where others reach it. ``led``: the kernel leads connections of its application to a proxy there, so that the
    application is called at its own port, and calls others by their names."""

    host: str
    led: bool

    def app(self, command: Sequence[str]) -> list[str]:
        """The command line that runs an application there."""
        ...

    def proxy(self, command: Sequence[str]) -> list[str]:
        """The command line that runs a proxy there."""
        ...


class Loopback:
    """Beside all others, at ports that happen to be free."""

    host = LOOPBACK
    led = False

    def app(self, command: Sequence[str]) -> list[str]:
        """As it is."""
        return list(command)

    def proxy(self, command: Sequence[str]) -> list[str]:
        """As it is."""
        return list(command)

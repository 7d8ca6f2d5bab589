"""The checks of a mesh's servers that raised."""

from __future__ import annotations

from collections.abc import Callable


class CheckFailures:
    """Counted; ``report`` (set by whoever can log) is called for the first."""

    __slots__ = ("count", "report")

    def __init__(self) -> None:
        self.count = 0
        self.report: Callable[[Exception], None] | None = None

    def note(self, error: Exception) -> None:
        """One more."""
        self.count += 1
        if self.count == 1 and self.report is not None:
            self.report(error)

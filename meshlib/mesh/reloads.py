"""How reloads and ``apply()`` have gone, and how old the configuration in force is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlib.clock import Clock


class Reloads:
    """``read`` counts reloads of files that took effect, in whole or in part; ``results`` these and calls of ``apply()`` by
    result: "ok", "partly" (some resources were refused, and the rest has taken effect), "failed". ``succeeded``: when all was
    well last, in seconds since the epoch."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._version = ""
        self._since = clock.monotonic()
        self.read = 0
        self.results = {"ok": 0, "partly": 0, "failed": 0}
        self.succeeded = clock.time()

    @property
    def failed(self) -> int:
        """How many refused something."""
        return self.results["partly"] + self.results["failed"]

    @property
    def age(self) -> float:
        """Seconds since the version in force took effect."""
        return max(0.0, self._clock.monotonic() - self._since)

    def took_effect(self, version: str) -> None:
        """The configuration in force is now this one, which may be what it was."""
        if version != self._version:
            self._version, self._since = version, self._clock.monotonic()

    def ended(self, result: str) -> None:
        """A reload, or ``apply()``, is over."""
        self.results[result] += 1
        if result == "ok":
            self.succeeded = self._clock.time()

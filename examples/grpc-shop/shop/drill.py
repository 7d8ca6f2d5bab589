"""What a service can be told to do wrong, so that the mesh has something to mend."""

from __future__ import annotations

import itertools
import threading

import grpc

MODES = ("none", "every-other", "slow")
SLOW_SECONDS = 3.0


class Drill:
    """``every-other`` answers every other call UNAVAILABLE, beginning with the first; ``slow`` takes 3 s for each."""

    def __init__(self) -> None:
        self._mode = "none"
        self._calls = itertools.count()

    def begin(self, mode: str) -> None:
        """Raises ValueError for a mode there is not."""
        if mode not in MODES:
            raise ValueError(f"the drill must be one of {', '.join(MODES)}, not {mode!r}")
        self._calls = itertools.count()
        self._mode = mode

    def before(self, context: grpc.ServicerContext) -> None:
        """At the start of a call. Raises (it aborts the call) when this one is to fail."""
        if self._mode == "every-other" and next(self._calls) % 2 == 0:
            context.abort(grpc.StatusCode.UNAVAILABLE, "this is a drill")
        if self._mode == "slow":
            gone = threading.Event()
            if context.add_callback(gone.set):  # the caller may hang up first: then the thread is free at once
                gone.wait(SLOW_SECONDS)

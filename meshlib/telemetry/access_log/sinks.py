"""The sinks of a process: one writer each, whoever logs to it, from the first that claims it to the last."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Hashable
from typing import Any

from meshlib.telemetry.access_log.file_output import STREAMS, FileOutput, StreamOutput
from meshlib.telemetry.access_log.logger_output import LoggerOutput
from meshlib.telemetry.access_log.writer import Output, Writer


class Sinks:
    """Writers by what they write to."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # what is dropped by the garbage collector releases what it has claimed
        self._writers: dict[Hashable, tuple[Writer[Any], set[int]]] = {}

    def file(self, path: str, claimant: int) -> Writer[str | bytes]:
        """A file; ``/dev/stdout`` and ``/dev/stderr`` are the program's own output."""
        stream = STREAMS.get(path)
        if stream is not None:
            return self.stream(stream, claimant)
        path = os.path.abspath(path)
        return self.claim(("file", path), path, lambda: FileOutput(path), claimant)

    def stream(self, which: str, claimant: int) -> Writer[str | bytes]:
        """``stdout`` or ``stderr``."""
        return self.claim(
            ("stream", which), which, lambda: StreamOutput("stdout" if which == "stdout" else "stderr"), claimant
        )

    def logger(self, logger: logging.Logger, claimant: int) -> Writer[str | bytes]:
        """A logger."""
        return self.claim(("logger", logger), f"logger {logger.name}", lambda: LoggerOutput(logger), claimant)

    def claim(self, key: Hashable, name: str, make: Callable[[], Output[Any]], claimant: int) -> Writer[Any]:
        """The writer of ``key``, made if there is none, for ``claimant`` (a number of its own), who ``release``s it."""
        with self._lock:
            found = self._writers.get(key)
            if found is None:
                found = self._writers[key] = Writer(make(), name), set()
            found[1].add(claimant)
            return found[0]

    def release(self, claimant: int, timeout: float = 1.0) -> None:
        """All that it has claimed: what nobody else has is closed when its lines are written, which is waited for so long."""
        left = []
        with self._lock:
            for key, (writer, claimants) in list(self._writers.items()):
                if claimant in claimants:
                    claimants.discard(claimant)
                    if not claimants:
                        del self._writers[key]
                        left.append(writer)
        for writer in left:
            writer.close(timeout)

    def after_fork(self) -> None:
        """In a forked child a thread of the parent may hold the lock."""
        self._lock = threading.RLock()


sinks = Sinks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=sinks.after_fork)

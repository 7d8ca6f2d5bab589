"""What long work says of itself on a terminal: one line, which it takes back. Nothing in a pipe, a log or a quick load."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from meshlib.clock import machine_seconds
from meshlib.pace import working

AFTER_SECONDS = 1.0
EVERY_SECONDS = 0.5


class Progress:
    """How long ``what`` has been going on, shown from ``AFTER_SECONDS`` on. The work's turns are reported to it."""

    def __init__(self, what: str, stream: TextIO) -> None:
        self._what = what
        self._stream = stream
        self._began = machine_seconds()
        self._next = self._began + AFTER_SECONDS
        self._shown = ""

    def step(self) -> None:
        """The work goes on."""
        now = machine_seconds()
        if now >= self._next:
            self._next = now + EVERY_SECONDS
            self._show(f"{self._what} ... {now - self._began:.0f} s")

    def _show(self, text: str) -> None:
        self._stream.write("\r" + text.ljust(len(self._shown)) + ("" if text else "\r"))
        self._stream.flush()
        self._shown = text

    def end(self) -> None:
        """Take the line back."""
        if self._shown:
            self._show("")


@contextmanager
def shown(what: str, stream: TextIO | None = None) -> Iterator[None]:
    """Long work inside is shown on ``stream`` (standard error), if that is a terminal."""
    stream = sys.stderr if stream is None else stream
    if stream is None or not stream.isatty():
        yield
        return
    progress = Progress(what, stream)
    try:
        with working(progress):
            yield
    finally:
        progress.end()

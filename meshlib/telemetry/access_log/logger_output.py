"""Lines to a logger of ``logging``: its handlers may take their time, as the background thread calls them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence


class LoggerOutput:
    """Each line is a record of level INFO, without its line end; what its handlers raise is counted as lost."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def write(self, items: Sequence[str | bytes], _stopping: Callable[[], bool], /) -> int:
        """As ``Output``."""
        lost = 0
        for line in items:
            try:
                text = line if isinstance(line, str) else line.decode("utf-8", "backslashreplace")
                self._logger.info("%s", text.rstrip("\n"))
            except Exception:  # noqa: BLE001 (of a handler or a filter: counted)
                lost += 1
        return lost

    def reopen(self) -> None:
        """Its handlers have their own ways."""

    def close(self) -> None:
        """It is the program's."""

    def after_fork(self) -> None:
        """``logging`` sees to its locks itself."""

"""Where the commands that run until they are told to stop log to, and how much."""

from __future__ import annotations

import logging

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def log_to_stderr(level: str) -> None:
    """As ``--log-level`` says. watchfiles, which tells at INFO of each change in the watched folder, is heard at debug alone: a
    log that is written to a file beside the configuration would be such a change, for ever."""
    chosen = level.upper()
    logging.basicConfig(level=chosen, format=FORMAT)
    if chosen != "DEBUG":
        logging.getLogger("watchfiles").setLevel(logging.WARNING)

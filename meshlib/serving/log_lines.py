"""What uvicorn logs of requests, without what callers keep to themselves: tokens may be in queries (``fromParams``), and lines
for debugging show all headers of a WebSocket's handshake.
"""

from __future__ import annotations

import logging

LOGGERS = ("uvicorn.access", "uvicorn.error")


def keep_secrets() -> None:
    """From now on, in this process; as often as one likes."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(shown)


def shown(record: logging.LogRecord) -> bool:
    """Whether the record is logged. A target in it loses its query, of which ``?...`` remains."""
    if record.levelno <= logging.DEBUG:
        return False
    if isinstance(record.args, tuple):
        record.args = tuple(_without_query(each) for each in record.args)
    return True


def _without_query(argument: object) -> object:
    if isinstance(argument, str) and argument.startswith("/"):
        path, mark, _ = argument.partition("?")
        return f"{path}?..." if mark else path
    return argument

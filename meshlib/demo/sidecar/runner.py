"""``meshlib demo sidecar``: Bookinfo behind proxies, with the scenarios and verdicts of ``meshlib demo bookinfo``."""

from __future__ import annotations

import asyncio
import importlib.util

from rich.console import Console

from meshlib.demo.bookinfo.runner import PROBLEM, REQUESTS
from meshlib.demo.report import Report

NEEDED = {"fastapi": "demo", "uvicorn": "demo", "cryptography": "security"}
"""Libraries, and the extras that have them."""


def run(once: bool = False, requests: int = REQUESTS, *, console: Console | None = None) -> int:
    """Play it; the exit code: 0 all verdicts pass, 1 some fail, 2 it could not be played. ``once`` ends after the scenarios.
    Call it from the main thread: it handles signals."""
    report = Report(console)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        extras = ",".join(dict.fromkeys(NEEDED[name] for name in missing))
        report.say(f"the demo needs {' and '.join(missing)}: pip install 'sidecarless[{extras}]'")
        return PROBLEM
    # here, not above: it needs the extras, whose absence deserves a sentence and not a traceback
    from meshlib.demo.bookinfo.play.session import CannotPlay, play
    from meshlib.demo.sidecar.application import Sidecars

    try:
        asyncio.run(play(report, once=once, config=None, requests=requests, port=0, kind=Sidecars))
    except CannotPlay as error:
        report.say(f"\n{error}")
        return PROBLEM
    except KeyboardInterrupt:
        report.say("\nstopped at once")
        return PROBLEM
    return 1 if report.failed else 0

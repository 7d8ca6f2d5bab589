"""``meshlib demo secure``: start the application, play the scenes, print verdicts, end."""

from __future__ import annotations

import asyncio
import importlib.util

from rich.console import Console

from meshlib.demo.report import Report

PROBLEM = 2
NEEDED = {"fastapi": "demo", "uvicorn": "demo", "cryptography": "security"}
"""Libraries, and the extras that have them."""


def run(once: bool = False, *, console: Console | None = None, binary: str | None = None) -> int:
    """Play it; the exit code: 0 all verdicts pass, 1 some fail, 2 it could not be played. ``once``: rotations every 2 s, not
    5. ``binary``: of Envoy, "" for none. Call it from the main thread: it handles signals."""
    report = Report(console)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        extras = ",".join(dict.fromkeys(NEEDED[name] for name in missing))
        report.say(f"the demo needs {' and '.join(missing)}: pip install 'sidecarless[{extras}]'")
        return PROBLEM
    # here, not above: it needs the extras, whose absence deserves a sentence and not a traceback
    from meshlib.demo.secure.play.session import CannotPlay, play

    try:
        asyncio.run(play(report, once=once, binary=binary))
    except CannotPlay as error:
        report.say(f"\n{error}")
        return PROBLEM
    return 1 if report.failed else 0

"""``meshlib demo bookinfo``: start the application, play the scenarios, print verdicts, leave the page up."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

from rich.console import Console

from meshlib.demo.report import Report
from meshlib.problems import MeshError

REQUESTS = 200
PAGE_PORT = 9080
PROBLEM = 2


def run(
    once: bool = False,
    config: Path | None = None,
    requests: int = REQUESTS,
    *,
    port: int = PAGE_PORT,
    otlp: str = "",
    console: Console | None = None,
) -> int:
    """Play Bookinfo; the exit code: 0 all verdicts pass, 1 some fail, 2 it could not be played.

    ``once`` ends after the scenarios, else the page stays up until Ctrl-C. ``config`` plays the files of that folder
    instead of our own scenarios. ``requests`` is how many looks each observation takes (few where each takes seconds).
    ``port`` is the page's wanted port; when taken, a free one is used. ``otlp`` is the URL
    that all spans go to. Call it from the main thread: it handles signals.
    """
    report = Report(console)
    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        report.say(f"the demo needs {' and '.join(missing)}: pip install 'sidecarless[demo]'")
        return PROBLEM
    if requests < 1:
        report.say("requests must be at least 1")
        return PROBLEM
    if otlp:
        try:
            from meshlib import otel

            otel.tracer_provider(otlp).shutdown()  # each process makes its own: this says what is wrong with the URL
        except MeshError as error:
            report.say(str(error))
            return PROBLEM
    # here, not above: it needs the demo extra, whose absence deserves a sentence and not a traceback
    from meshlib.demo.bookinfo.play.session import CannotPlay, play

    try:
        asyncio.run(play(report, once=once, config=config, requests=requests, port=port, otlp=otlp))
    except CannotPlay as error:
        report.say(f"\n{error}")
        return PROBLEM
    except KeyboardInterrupt:
        report.say("\nstopped at once")
        return PROBLEM
    return 1 if report.failed else 0

"""``meshlib demo grpc``: start the shop, play the scenarios, print verdicts, leave it up."""

from __future__ import annotations

import importlib.util

from rich.console import Console

from meshlib.demo.report import Report

CALLS = 200
PROBLEM = 2
NEEDED = {"grpc": "grpcio", "google.protobuf": "protobuf"}


def run(once: bool = False, calls: int = CALLS, *, console: Console | None = None) -> int:
    """Play the shop; the exit code: 0 all verdicts pass, 1 some fail, 2 it could not be played.

    ``once`` ends after the scenarios, else the shop stays up until Ctrl-C. ``calls`` is how many calls each count takes.
    Call it from the main thread: it handles signals.
    """
    report = Report(console)
    missing = [package for module, package in NEEDED.items() if not _installed(module)]
    if missing:
        report.say(f"the demo needs {' and '.join(missing)}: pip install 'sidecarless[grpc]'")
        return PROBLEM
    if calls < 1:
        report.say("calls must be at least 1")
        return PROBLEM
    # here, not above: it needs grpcio, whose absence deserves a sentence and not a traceback
    from meshlib.demo.shop.play.session import CannotPlay, play

    try:
        play(report, once=once, calls=calls)
    except CannotPlay as error:
        report.say(f"\n{error}")
        return PROBLEM
    except KeyboardInterrupt:
        report.say("\nstopped at once")
        return PROBLEM
    return 1 if report.failed else 0


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package it would be in
        return False

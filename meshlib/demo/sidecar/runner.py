"""``meshlib demo sidecar``: Bookinfo behind proxies, with the scenarios and verdicts of ``meshlib demo bookinfo``. First in
network namespaces, where the kernel leads connections to the proxies, if they can be had; then on loopback, where services
know their proxy."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING

from rich.console import Console

from meshlib.demo.bookinfo.runner import PROBLEM, REQUESTS
from meshlib.demo.process import environment
from meshlib.demo.report import Report
from meshlib.problems import MeshError

if TYPE_CHECKING:
    from meshlib.demo.bookinfo.play.application import Application

NEEDED = {"fastapi": "demo", "uvicorn": "demo", "cryptography": "security"}
"""Libraries, and the extras that have them."""
BOTH, EXPLICIT, TRANSPARENT = MODES = ("both", "explicit", "transparent")
MESHLIB, ENVOY = ENGINES = ("meshlib", "envoy")
ENDS = {0: "all verdicts pass", 1: "some verdicts fail"}


def run(
    once: bool = False,
    requests: int = REQUESTS,
    *,
    mode: str = BOTH,
    engine: str = MESHLIB,
    console: Console | None = None,
) -> int:
    """Play it; the exit code: 0 all verdicts pass, 1 some fail, 2 it could not be played. ``once`` ends after the scenarios.
    ``mode``: one of MODES. Where ``both`` are asked for and there are no namespaces, that is said, and the explicit verdicts
    decide. ``engine``: of all proxies, one of ENGINES. Call it from the main thread: it handles signals."""
    report = Report(console)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        extras = ",".join(dict.fromkeys(NEEDED[name] for name in missing))
        report.say(f"the demo needs {' and '.join(missing)}: pip install 'sidecarless[{extras}]'")
        return PROBLEM
    if engine == ENVOY:
        from meshlib.envoy.binary import find_envoy

        try:
            find_envoy()
        except MeshError as error:
            report.say(str(error))
            return PROBLEM
    led = 0
    if mode != EXPLICIT:
        why = _why_not_led()
        if why and mode == TRANSPARENT:
            report.say(f"transparent mode cannot be played: {why}")
            return PROBLEM
        if why:
            report.say(f"transparent mode is NOT played: {why}\n")
        else:
            report.say("transparent mode: services know of no proxy, and the kernel leads their connections to it")
            led = _in_a_node(requests, engine)
            report.say(f"transparent mode: {ENDS.get(led, 'it could not be played')}\n")
        if mode == TRANSPARENT or led == PROBLEM:
            return led
    # here, not above: it needs the extras, whose absence deserves a sentence and not a traceback
    from meshlib.demo.sidecar.application import OnEnvoy, Sidecars

    report.say("explicit mode: services know the address of their proxy")
    kind = OnEnvoy if engine == ENVOY else Sidecars
    return max(led, played(report, kind, once=once, requests=requests))


def _why_not_led() -> str:
    """Why transparent mode cannot be played, "" when it can."""
    from meshlib.demo.sidecar.pods import why_none

    why = why_none()
    return f"it needs network namespaces and iptables, and {why}" if why else ""


def played(report: Report, kind: type[Application], *, once: bool, requests: int) -> int:
    """Play one kind of it; exit codes as of ``run``."""
    from meshlib.demo.bookinfo.play.session import CannotPlay, play

    try:
        asyncio.run(play(report, once=once, config=None, requests=requests, port=0, kind=kind))
    except CannotPlay as error:
        report.say(f"\n{error}")
        return PROBLEM
    except KeyboardInterrupt:
        report.say("\nstopped at once")
        return PROBLEM
    return 1 if report.failed else 0


def _in_a_node(requests: int, engine: str) -> int:
    """In a process whose network and files in /etc are its own. It ends when this one does."""
    from meshlib.demo.sidecar.pods import apart

    command = [*apart(), sys.executable, "-m", "meshlib.demo.sidecar.led", "--requests", str(requests)]
    command += ["--engine", engine]
    sys.stdout.flush()
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment()) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:  # it has got the same signal
            code = process.wait()
    return code if code in ENDS else PROBLEM

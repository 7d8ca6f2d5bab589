"""One run of the demo from the first process to the last, with the signals that may end it early."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from meshlib.demo.bookinfo.play.application import Application, NotConverged
from meshlib.demo.bookinfo.play.files import NothingToPlay, play_files, read_folder
from meshlib.demo.bookinfo.play.outlier import play_outlier
from meshlib.demo.bookinfo.play.scenario import play_scenario
from meshlib.demo.bookinfo.play.scenarios import SCENARIOS
from meshlib.demo.process import ChildDied
from meshlib.demo.report import Report
from meshlib.policy.secret_values import url_shown

PAGE_RULES = next(s for s in SCENARIOS if s.file == "06-jason-v2-others-v3.yaml")
"""What the page is left with."""


class CannotPlay(RuntimeError):
    """The demo could not be played to its end: a process died, the folder is empty, the run was stopped half-way."""


async def play(
    report: Report,
    *,
    once: bool,
    config: Path | None,
    requests: int,
    port: int,
    otlp: str = "",
    kind: type[Application] = Application,
) -> None:
    """Play everything on an application of this ``kind``, then, without ``once``, leave the page up until a signal. Raises
    CannotPlay."""
    task = asyncio.current_task()
    assert task is not None
    restore = _end_on_signals(task)
    started = time.monotonic()
    done = False
    try:
        files = read_folder(config) if config is not None else []
        report.say(f"starting Bookinfo: {kind.processes} ...")
        with kind(port, otlp) as app:
            report.say(f"ready after {time.monotonic() - started:.1f} s")
            report.say(f"mesh YAML in {app.folder.path}, logs in {app.logs}")
            if kind.traced:
                report.say(where_spans_are(otlp))
            provider = None
            if otlp:
                from meshlib import otel

                provider = otel.tracer_provider(otlp, service="visitor", delay=1.0)
            async with app.visitor(provider) as client:
                if config is not None:
                    await play_files(app, client, report, files, requests)
                else:
                    await _play_scenarios(app, client, report, requests)
                    await app.also_plays(client, report, requests)
            if provider is not None:
                provider.shutdown()
            report.table()
            if report.failed:
                app.keep_files = True
                report.say(f"YAML and logs are kept in {app.root}")
            report.say(f"{time.monotonic() - started:.0f} s in all")
            done = True
            if not once:
                if config is None:
                    app.play(PAGE_RULES.path.read_bytes())  # both colors of stars to look at
                    report.say(f"\nrules now: {PAGE_RULES.file} ({PAGE_RULES.asked})")
                await _stay_up(app, report)
    except (NothingToPlay, ChildDied, NotConverged) as error:
        raise CannotPlay(str(error)) from error
    except asyncio.CancelledError:
        task.uncancel()
        report.say("\nstopped")
        if not done:
            raise CannotPlay("stopped before the end") from None
    finally:
        restore()


def where_spans_are(otlp: str) -> str:
    """A sentence for who wants to see them."""
    if not otlp:
        return "no spans: --otlp http://127.0.0.1:4318 sends them to a collector (a Jaeger, say); see docs/tracing.md"
    host = urlsplit(otlp).hostname
    return f"spans go to {url_shown(otlp)}: look for the service visitor (Jaeger's page: http://{host}:16686)"


def _end_on_signals(task: asyncio.Task[None]) -> Callable[[], None]:
    """The first signal cancels the task, a second one interrupts even what blocks. Returns what undoes this."""
    loop = asyncio.get_running_loop()
    told = False

    def handle(number: int, frame: object) -> None:
        nonlocal told
        if told:
            raise KeyboardInterrupt
        told = True
        loop.call_soon_threadsafe(task.cancel)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore


async def _play_scenarios(app: Application, client: httpx.AsyncClient, report: Report, requests: int) -> None:
    for scenario in SCENARIOS:
        await play_scenario(app, client, report, scenario, requests)
    await play_outlier(app, client, report)


async def _stay_up(app: Application, report: Report) -> None:
    report.say(f"The page is up: {app.url}  (sign in as jason)")
    for sentence in app.where_to_look():
        report.say_whole(sentence)
    report.say(f"Edit the rules while it runs: {app.folder.path / 'traffic.yaml'}")
    report.say("Ctrl-C ends it.")
    while True:
        app.check()
        await asyncio.sleep(0.5)

"""One run of the demo from the first process to the last, with the signals that may end it early."""

from __future__ import annotations

import asyncio
import signal
import time

import meshlib
from meshlib.demo.process import ChildDied
from meshlib.demo.report import Report
from meshlib.demo.secure.play.application import VISITOR, Application, envoy_binary
from meshlib.demo.secure.play.changes import another_root, rotations
from meshlib.demo.secure.play.envoy import MISSING
from meshlib.demo.secure.play.scenes import (
    Stage,
    a_real_envoy,
    a_token_is_wanted,
    everybody_is_known,
    plain_text_is_reset,
    ratings_only_from_reviews,
)

ROTATIONS = 5
OFTEN, CALMLY = 2.0, 5.0
"""Seconds between rotations, with ``--once`` and without."""
SCENES = (everybody_is_known, plain_text_is_reset, a_token_is_wanted, ratings_only_from_reviews, a_real_envoy)


class CannotPlay(RuntimeError):
    """A process died, or the run was stopped half-way."""


async def play(report: Report, *, once: bool, binary: str | None = None) -> None:
    """Play everything. ``binary``: of Envoy, "" for none; found where it is None. Raises CannotPlay."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in signals:
        loop.add_signal_handler(number, task.cancel)
    binary = envoy_binary() if binary is None else binary
    started = time.monotonic()
    try:
        report.say("making a CA, and starting Bookinfo behind mTLS: productpage, reviews, ratings, details ...")
        if not binary:
            report.say(MISSING)
        with Application(binary) as app:
            report.say(
                f"ready after {time.monotonic() - started:.1f} s{', a real Envoy before details' if binary else ''}"
            )
            report.say(f"mesh YAML in {app.folder}, CA in {app.store.folder}, logs in {app.logs}")
            mesh = meshlib.Mesh.from_path(app.folder, watch=True, workload=VISITOR, identity=app.identity("visitor"))
            async with mesh, mesh.async_client(headers={"user-agent": "bookinfo-visitor"}) as client:
                stage = Stage(app, client, report)
                for scene in SCENES:
                    await scene(stage)
                await rotations(stage, ROTATIONS, OFTEN if once else CALMLY)
                await another_root(stage)
            report.table()
            if report.failed:
                app.keep_files = True
                report.say(f"YAML and logs are kept in {app.root}")
            report.say(f"{time.monotonic() - started:.0f} s in all")
    except ChildDied as error:
        raise CannotPlay(str(error)) from error
    except asyncio.CancelledError:
        task.uncancel()
        raise CannotPlay("stopped before the end") from None
    finally:
        for number in signals:
            loop.remove_signal_handler(number)

"""A run: parts one after the other, and the report of it, whole at every moment."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from meshlib.bench import machine, plan, scale, told
from meshlib.bench.plan import Pace, Part
from meshlib.bench.result import Report, Row
from meshlib.bench.rounds import Runner

SIGINT = 2
BY_SIGNAL = 128
FAILED = 1
CLOSED_LOOP = (
    "closed loop: each caller waits before it calls again, so a stall is met once a caller, and percentiles hide how many "
    "calls would have fallen into it (coordinated omission); rows with load open RATE/s count from when a call was due"
)


class Progress(Protocol):
    """Who is told how far a run is."""

    def begin(self, seconds: float) -> None:
        """That it will take, about."""

    def say(self, sentence: str) -> None:
        """What is measured now, or was left out."""

    def advance(self, seconds: float) -> None:
        """So much of them is over."""


def run(
    parts: Sequence[Part],
    pace: Pace,
    progress: Progress,
    kept: Callable[[Report], None],
    *,
    quick: bool,
    sizes: Sequence[scale.Step] = (),
) -> tuple[Report, int]:
    """The report, and the exit code. ``kept`` is given the report of what has been measured, after each part, each of
    the ``sizes``, which come after the parts, and at the end.
    KeyboardInterrupt, with the signal's number, ends the run, not the program."""
    began, at = time.monotonic(), datetime.datetime.now(datetime.UTC)
    facts = machine.facts()
    runner = Runner(pace, progress.say, progress.advance)
    code = 0

    def report() -> Report:
        notes = (
            [
                f"rounds: {pace.rounds} of {pace.seconds:g} s of each (gRPC: twice as many, half as long), in turn, after one "
                "that is not counted"
            ]
            if parts
            else []
        )
        notes += [
            *machine.warnings(facts),
            *runner.notes,
            *runner.waiting(),
            *told.noise(runner.rows),
            *told.limits(runner.rows),
            *scale.growth(runner.rows),
        ]
        if parts:
            notes.append(CLOSED_LOOP)
        if quick and any(part.group == plan.GRPC for part in parts):
            notes.append(plan.WITHOUT_XDS)
        seconds = round(time.monotonic() - began, 1)
        return Report(
            machine.version(), machine.commit(), at.isoformat(timespec="seconds"), seconds, quick, facts, tuple(notes),
            tuple(runner.rows),
        )  # fmt: skip

    def measured(row: Row) -> None:
        runner.rows.append(row)
        kept(report())

    progress.begin(sum(runner.seconds(part) for part in parts) + sum(size.seconds for size in sizes))
    try:
        for part in parts:
            runner.measure(part)
            kept(report())
        for sentence in scale.run(sizes, progress.say, progress.advance, measured):
            runner.note(sentence)
            runner.died = True
    except KeyboardInterrupt as interrupt:
        code = BY_SIGNAL + (interrupt.args[0] if interrupt.args else SIGINT)
        runner.note("interrupted: the report has what was measured until then")
    if code == 0 and (runner.died or not runner.rows):
        code = FAILED
    made = report()
    kept(made)
    return made, code

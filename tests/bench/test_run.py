"""A run: the report is whole at every moment, and the exit code says how it ended."""

from __future__ import annotations

import pytest

from meshlib.bench import plan, run, scale
from meshlib.bench.plan import Pace, Part, Point
from meshlib.bench.result import Report, Row
from meshlib.bench.rounds import Runner
from meshlib.bench.scale import Step

PARTS = [Part("library", world, (plan.BARE,), (Point(1),)) for world in ("asyncio", "sync")]


class Quiet:
    def __init__(self) -> None:
        self.total = 0.0

    def begin(self, seconds: float) -> None:
        self.total = seconds

    def say(self, sentence: str) -> None:
        pass

    def advance(self, seconds: float) -> None:
        pass


def measured(part: Part) -> Row:
    return Row(part.group, "bare httpx", None, part.world, 1, 0, False, 1, "closed", {})


def ran(monkeypatch: pytest.MonkeyPatch, measure: object) -> tuple[Report, int, list[Report]]:
    monkeypatch.setattr(Runner, "measure", measure)
    kept: list[Report] = []
    progress = Quiet()
    report, code = run.run(PARTS, Pace(1, 0.01), progress, kept.append, quick=True)
    assert progress.total > 0
    assert kept[-1] == report
    return report, code, kept


def test_what_was_measured_is_kept_after_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(self: Runner, part: Part) -> None:
        self.rows.append(measured(part))

    report, code, kept = ran(monkeypatch, measure)
    assert code == 0
    assert [len(each.rows) for each in kept] == [1, 2, 2]
    assert Report.from_json(report.to_json()) == report
    assert report.quick
    assert any("rounds: 1 of 0.01 s" in note for note in report.notes)
    assert any("coordinated omission" in note for note in report.notes)


@pytest.mark.parametrize(("interrupt", "code"), [(KeyboardInterrupt(), 130), (KeyboardInterrupt(15), 143)])
def test_an_interruption_ends_the_run_and_keeps_what_there_is(
    monkeypatch: pytest.MonkeyPatch, interrupt: KeyboardInterrupt, code: int
) -> None:
    def measure(self: Runner, part: Part) -> None:
        if self.rows:
            raise interrupt
        self.rows.append(measured(part))

    report, ended, _ = ran(monkeypatch, measure)
    assert ended == code
    assert len(report.rows) == 1
    assert any("interrupted: " in note for note in report.notes)


@pytest.mark.parametrize("died", [True, False])
def test_a_process_that_died_or_nothing_measured_is_exit_code_1(monkeypatch: pytest.MonkeyPatch, died: bool) -> None:
    def measure(self: Runner, part: Part) -> None:
        self.died = died
        if died:
            self.rows.append(measured(part))

    assert ran(monkeypatch, measure)[1] == 1


def test_each_size_of_scale_is_kept_as_soon_as_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(step: Step) -> Row:
        if step.size == 1_000:
            raise KeyboardInterrupt
        return Row("scale", step.name, None, "", 0, 0, False, 0, "closed", {}, axis=step.axis, size=step.size)

    monkeypatch.setattr(scale, "measure", measure)
    kept: list[Report] = []
    sizes = [Step("rules", "prefixes", size, 1) for size in (10, 100, 1_000)]
    report, code = run.run([], Pace(1, 0.01), Quiet(), kept.append, quick=True, sizes=sizes)
    assert [len(each.rows) for each in kept] == [1, 2, 2]
    assert [row.size for row in report.rows] == [10, 100]
    assert code == 130

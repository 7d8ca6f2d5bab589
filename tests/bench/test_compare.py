"""A verdict for each measure of two reports, which noise does not make; what cannot be compared is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshlib.bench.compare import Comparisons, Verdict, compare, judge
from meshlib.bench.result import CLOSED, Measure, Report, Row

STEADY = (1.00, 1.01, 0.99, 1.005, 0.995, 1.002)
NOISY = (1.0, 1.4, 0.7, 1.9, 0.6, 1.2)


def row(name: str = "meshlib", **measures: Measure) -> Row:
    return Row("library", name, None, "asyncio", 32, 1024, False, 1, CLOSED, measures)


def report(*rows: Row, at: str = "2026-11-26T22:00:00Z", **machine: str | int) -> Report:
    return Report("0.1.0", "abc", at, 1.0, False, machine, (), rows)


def times(values: tuple[float, ...], by: float) -> tuple[float, ...]:
    return tuple(each * by for each in values)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (STEADY, times(STEADY, 1.2), Verdict.WORSE),
        (STEADY, times(STEADY, 0.8), Verdict.BETTER),
        (STEADY, STEADY, Verdict.SAME),
        (STEADY, times(STEADY, 1.005), Verdict.SAME),
        (NOISY, times(NOISY, 1.2), Verdict.CANNOT_TELL),
        (NOISY, NOISY, Verdict.CANNOT_TELL),
        (STEADY[:3], times(STEADY[:3], 9), Verdict.CANNOT_TELL),
    ],
)
def test_a_verdict_respects_noise(before: tuple[float, ...], after: tuple[float, ...], verdict: Verdict) -> None:
    assert judge(row(), "p50", Measure("ms", before), Measure("ms", after)).verdict is verdict


def test_of_a_rate_more_is_better() -> None:
    before, after = Measure("1/s", STEADY, True), Measure("1/s", times(STEADY, 1.2), True)
    assert judge(row(), "requests/s", before, after).word == "faster"
    assert judge(row(), "requests/s", after, before).word == "slower"


def test_memory_and_cpu_get_less_or_more() -> None:
    small, large = Measure("MB", STEADY), Measure("MB", times(STEADY, 2))
    assert [judge(row(), "pss", a, b).word for a, b in ((small, large), (large, small))] == ["more", "less"]


def test_a_real_change_below_the_margin_is_not_worse() -> None:
    exact = tuple(1 + n / 1e6 for n in range(6))
    assert judge(row(), "p50", Measure("ms", exact), Measure("ms", times(exact, 1.01))).verdict is Verdict.SAME
    assert (
        judge(row(), "p50", Measure("ms", exact), Measure("ms", times(exact, 1.01)), margin=0.001).verdict
        is Verdict.WORSE
    )


def test_who_cannot_tell_says_how_many_rounds_would() -> None:
    few = judge(row(), "p50", Measure("ms", STEADY[:3]), Measure("ms", STEADY[:3]))
    assert few.why == "1 more round of each might tell"
    noisy = judge(row(), "p50", Measure("ms", NOISY), Measure("ms", times(NOISY, 1.5)))
    assert noisy.more_rounds is not None
    assert noisy.why == f"{noisy.more_rounds} more rounds of each might tell"
    hopeless = judge(row(), "p50", Measure("ms", NOISY), Measure("ms", NOISY))
    assert hopeless.why.startswith("the spread is far larger than the difference")


def test_rows_are_found_by_what_they_measure_and_named_where_only_one_has_them() -> None:
    steady = Measure("ms", STEADY)
    found = compare(report(row("gone", p50=steady), row(p50=steady)), report(row(p50=steady), row("new", p50=steady)))
    assert [each.row.name for each in found.compared] == ["meshlib"]
    assert [each.name for each in found.only_before] == ["gone"]
    assert [each.name for each in found.only_after] == ["new"]


def test_only_what_is_asked_for_is_compared() -> None:
    whole = row(p50=Measure("ms", STEADY), pss=Measure("MB", STEADY))
    found = compare(report(whole), report(whole), measures=frozenset({"pss"}))
    assert [each.measure for each in found.compared] == ["pss"]


def test_what_has_no_ratio_is_said() -> None:
    before = row(pss=Measure("MB", (0.0, 1.0)), p50=Measure("ms", STEADY))
    after = row(pss=Measure("MB", (1.0, 1.0)), p50=Measure("us", STEADY))
    found = compare(report(before), report(after))
    assert found.compared == ()
    assert "pss: a value of it is 0 or below" in found.not_compared[0]
    assert "p50: measured in ms and in us" in found.not_compared[1]


def warned(found: Comparisons) -> str:
    return " ".join(found.warnings)


def test_machines_that_differ_are_warned_of() -> None:
    found = compare(report(cpu="A", cpus=2), report(cpu="B", cpus=2, at="later", container="yes"))
    assert "the machines differ (cpu: A and B; container: not told and yes)" in warned(found)
    assert "cpus" not in warned(found)
    assert compare(report(cpu="A"), report(cpu="A", at="later")).warnings == ()


def test_a_quick_run_beside_a_whole_one_and_a_run_beside_itself_are_warned_of() -> None:
    one = report(row())
    assert "quick" in warned(compare(one, replace(one, quick=True)))
    assert "the same run" in warned(compare(one, one))


def test_counts_have_all_four_verdicts_and_chance_is_told() -> None:
    steady = Measure("ms", STEADY)
    found = compare(
        report(*(row(str(n), p50=steady) for n in range(40))), report(*(row(str(n), p50=steady) for n in range(40)))
    )
    assert found.counts == {Verdict.BETTER: 0, Verdict.WORSE: 0, Verdict.SAME: 40, Verdict.CANNOT_TELL: 0}
    assert found.by_chance == pytest.approx(2)

"""Scale: the sizes, a size's row, what fails is told, and growth in sentences."""

from __future__ import annotations

import pytest

from meshlib.bench import scale
from meshlib.bench.processes import Died
from meshlib.bench.result import CLOSED, COMPILE, HELD, LOAD, LOOK_UP, STALL, Measure, Row
from meshlib.bench.scale import MOST_OF_QUICK, Step, cells, growth, measure, run, steps


def row(size: int, value: float) -> Row:
    measures = {COMPILE: Measure("ms", (value,)), LOOK_UP: Measure("us", (4.0,))}
    return Row("scale", "services", None, "", 0, 0, False, 0, CLOSED, measures, axis="services", size=size)


def test_a_whole_run_goes_as_far_as_it_promises() -> None:
    largest = {
        axis: max(step.size for step in steps(quick=False) if step.axis == axis)
        for axis in ("services", "endpoints", "rules")
    }
    assert largest == {"services": 10_000, "endpoints": 100_000, "rules": 50_000}


def test_a_quick_run_leaves_out_what_is_large_and_has_three_sizes_to_fit() -> None:
    quick = steps(quick=True)
    assert max(step.size for step in quick) == MOST_OF_QUICK
    assert all(sum(step.name == name for step in quick) == 3 for name in {step.name for step in quick})
    assert sum(step.seconds for step in quick) < 120


def test_a_size_is_a_row_of_all_figures() -> None:
    made = measure(Step("endpoints", "endpoints, LEAST_REQUEST", 10, 1))
    assert (made.group, made.axis, made.size) == ("scale", "endpoints", 10)
    assert set(made.measures) == {LOAD, COMPILE, HELD, LOOK_UP, STALL}
    assert made.conditions == "10 endpoints"


def test_a_process_that_ends_by_itself_is_told_and_the_others_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(step: Step) -> Row:
        if step.size == 10:
            raise Died("10 services (process 7) was ended by SIGKILL")
        return row(step.size, 1.0)

    monkeypatch.setattr(scale, "measure", measured)
    said: list[str] = []
    rows: list[Row] = []
    failed = run([Step("services", "services", n, 1) for n in (10, 100)], said.append, lambda _: None, rows.append)
    assert [each.size for each in rows] == [100]
    assert failed == ["10 services (services) were not measured: 10 services (process 7) was ended by SIGKILL"]
    assert said[1] == "scale: 100 services (services)"


def test_an_unknown_name_ends_its_process_with_what_it_said() -> None:
    with pytest.raises(Died, match="KeyError"):
        measure(Step("rules", "nonsense", 1, 1))


def test_growth_is_told_with_its_exponent() -> None:
    told = growth([row(size, size * 0.5) for size in (10, 100, 1000)])
    assert told[0] == "compile along services (services): n^1.00 (greater half n^1.00), R² 1.000: linearly"
    assert told[1].endswith("constant")
    assert growth([row(10, 1.0), row(100, 2.0)]) == []


def test_a_table_has_a_line_for_each_size() -> None:
    assert cells(row(1000, 12.34)) == ("services", "1,000", "-", "12.3", "-", "4.00", "-")

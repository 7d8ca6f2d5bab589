"""What a report says to people."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from meshlib.bench import plan, told
from meshlib.bench.plan import Pace
from meshlib.bench.result import CPU, RATE, Measure, Report, Row
from meshlib.bench.rounds import GENERATOR_CPU
from meshlib.bench.verdict import Ratio


def row(name: str, measures: Mapping[str, Measure], baseline: str | None = None, in_flight: int = 1) -> Row:
    return Row("library", name, baseline, "asyncio", in_flight, 1024, False, 1, "closed", measures)


def cpu(*values: float) -> dict[str, Measure]:
    return {CPU: Measure("s", values)}


BASE = row(plan.BARE.name, cpu(*[0.8] * 5))
MESH = row(plan.MESH_NAME, cpu(*[0.2] * 5), plan.BARE.name)


def report(*rows: Row) -> Report:
    return Report("1", "", "2026-01-01T00:00:00+00:00", 1.0, True, {}, (), rows)


def test_a_row_is_told_against_its_baseline_with_the_interval() -> None:
    assert told.cells(MESH, [BASE, MESH])[:3] == (plan.MESH_NAME, "200", "0.25 (0.25 to 0.25)")
    assert told.cells(BASE, [BASE, MESH])[2] == "1"


def test_what_is_not_told_apart_has_a_mark() -> None:
    same = row(plan.MESH_NAME, cpu(0.7, 0.9, 0.8, 0.7, 0.9), plan.BARE.name)
    assert told.cells(same, [BASE, same])[2] == "~1.00 (0.87 to 1.12)"


def test_a_row_without_its_baseline_or_a_measure_has_a_dash() -> None:
    assert told.cells(MESH, [MESH])[2:] == ("-", "-", "-", "-", "-")


def test_rows_that_did_not_take_turns_are_in_tables_of_their_own() -> None:
    other = row(plan.BARE.name, cpu(1.0), in_flight=32)
    assert [len(rows) for rows in told.by_conditions([BASE, MESH, other]).values()] == [2, 1]


def test_what_follows_is_a_sentence() -> None:
    (said,) = told.sentences(report(BASE, MESH), Pace(5, 0.3))
    assert said == (
        "library: asyncio, 1 in flight, 1 kB, plain, 1 rule: httpx through meshlib takes 0.25 times the CPU of bare httpx "
        "(0.25 to 0.25, 5 rounds)."
    )


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            Ratio(1.1, 0.9, 1.2, 7),
            "spread is larger than the difference. About 29 rounds (1.9 min) would tell: --rounds 29",
        ),
        (Ratio(1.001, 0.7, 1.2, 7), "no run of reasonable length would tell the two apart"),
        (Ratio(0.2, 0.2, 0.2, 2), "too few rounds, it takes 5 at least"),
    ],
)
def test_nothing_is_concluded_where_the_spread_is_larger_than_the_difference(found: Ratio, said: str) -> None:
    sentence = told.sentence("a", "b", found, seconds=4.0)
    assert sentence.startswith("no conclusion on the CPU of a and b")
    assert said in sentence


def test_where_rounds_come_in_parts_the_option_says_how_many_times_those() -> None:
    sentence = told.sentence("a", "b", Ratio(1.1, 0.9, 1.2, 7), seconds=4.0, parts=2)
    assert "About 29 rounds (1.0 min) would tell: --rounds 15." in sentence


def test_the_load_generators_own_limit_is_said() -> None:
    measures = {RATE: Measure("/s", (8000.0,)), GENERATOR_CPU: Measure("s", (0.1,))}
    alone = Row("proxy", plan.NO_PROXY.name, None, "generator", 32, 1024, False, 1, "closed", measures)
    (said,) = told.limits([alone, BASE])
    assert "limit on this machine is 8,000 requests/s (row 'no proxy', 32 in flight, 100 us of CPU a request)" in said
    assert told.cells(alone, [alone])[1:3] == ("-", "-")
    assert told.limits([BASE]) == []


def test_noise_and_rates_that_were_not_kept_are_said() -> None:
    noisy = row("a", {CPU: Measure("s", (1.0, 1.0, 2.0))})
    slow, fast = (
        Row("library", name, None, "asyncio", 32, 1024, False, 1, "open 500/s", {RATE: Measure("/s", (rate,))})
        for name, rate in (("a", 450.0), ("b", 499.0))
    )
    noise, rate = told.noise([noisy, slow, fast])
    assert "50% of the median apart" in noise
    assert rate.startswith(
        "library, asyncio, 32 in flight, 1 kB, plain, 1 rule, open 500/s: the rate was not kept by a (450/s);"
    )
    assert told.noise([]) == []

"""The report as data: what is written is read again, and what is not a report is refused by name and place."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.bench.result import CLOSED, GROUPS, Measure, Report, Row, UnreadableReport, quantile, size_of

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
COUNTS = st.integers(0, 10**6)
MEASURES = st.builds(
    Measure, unit=TEXTS, values=st.lists(NUMBERS, min_size=1, max_size=5).map(tuple), higher_is_better=st.booleans()
)
ROWS = st.builds(
    Row,
    group=st.sampled_from(GROUPS),
    name=TEXTS,
    baseline=st.none() | TEXTS,
    world=TEXTS,
    in_flight=COUNTS,
    body=COUNTS,
    tls=st.booleans(),
    rules=COUNTS,
    load=TEXTS,
    measures=st.dictionaries(TEXTS, MEASURES, max_size=3),
    latencies=st.lists(st.tuples(NUMBERS, COUNTS), max_size=3).map(tuple),
    processes=st.lists(TEXTS, max_size=2).map(tuple),
    axis=TEXTS,
    size=COUNTS,
)
REPORTS = st.builds(
    Report,
    version=TEXTS,
    commit=TEXTS,
    at=TEXTS,
    seconds=NUMBERS,
    quick=st.booleans(),
    machine=st.dictionaries(TEXTS, TEXTS | COUNTS | NUMBERS, max_size=3),
    notes=st.lists(TEXTS, max_size=3).map(tuple),
    rows=st.lists(ROWS, max_size=3).map(tuple),
    format=st.just(1),
)
ROW = Row("library", "meshlib", "httpx", "asyncio", 32, 1024, False, 1, CLOSED, {"p50": Measure("ms", (1.0, 2.0, 4.0))})
REPORT = Report("0.1.0", "abc", "2026-11-26T22:00:00Z", 12.5, True, {"cpus": 2}, ("no Envoy",), (ROW,))


@given(REPORTS)
def test_what_is_written_is_read_again(report: Report) -> None:
    assert Report.from_json(report.to_json()) == report


def test_a_row_is_a_line() -> None:
    assert sum('"name": "meshlib"' in line for line in replace(REPORT, rows=(ROW, ROW)).to_json().splitlines()) == 2


@given(st.lists(NUMBERS, min_size=1).map(tuple), st.floats(0, 1))
def test_a_quantile_is_between_the_least_and_the_greatest(values: tuple[float, ...], part: float) -> None:
    found = quantile(values, part)
    slack = 1e-9 * max(abs(min(values)), abs(max(values))) + 1e-300
    assert min(values) - slack <= found <= max(values) + slack


@given(st.lists(NUMBERS, min_size=1).map(tuple))
def test_quartiles_are_in_order_whatever_the_order_of_the_rounds(values: tuple[float, ...]) -> None:
    measure = Measure("ms", values)
    slack = 1e-9 * max(map(abs, values)) + 1e-300  # halves of the smallest numbers are none
    assert measure.low <= measure.median + slack
    assert measure.median <= measure.high + slack
    assert Measure("ms", values[::-1]).median == measure.median


def test_median_quartiles_and_spread_of_a_sample() -> None:
    measure = Measure("ms", (4.0, 1.0, 3.0, 2.0, 5.0))
    assert (measure.median, measure.low, measure.high, measure.spread) == (3.0, 2.0, 4.0, 2 / 3)
    assert Measure("ms", (0.0, 0.0)).spread == 0.0


def test_a_measure_without_values_has_no_median() -> None:
    with pytest.raises(ValueError, match="without values"):
        _ = Measure("ms", ()).median


def test_conditions_are_told_for_people() -> None:
    assert ROW.conditions == "asyncio, 32 in flight, 1 kB, plain, 1 rule"
    opened = replace(ROW, load="open 500/s", tls=True, rules=10_000, body=0)
    assert opened.conditions == "asyncio, 32 in flight, 0 B, mTLS, 10,000 rules, open 500/s"
    assert replace(ROW, group="scale", axis="services", size=1000).conditions == "1,000 services"


def test_sizes_are_told_as_bodies_are_made() -> None:
    assert [size_of(n) for n in (0, 1000, 1024, 65536, 1 << 20)] == ["0 B", "1000 B", "1 kB", "64 kB", "1 MB"]


def test_rows_of_two_reports_are_the_same_where_only_their_figures_differ() -> None:
    assert replace(ROW, measures={}, baseline=None).key == ROW.key
    assert replace(ROW, in_flight=1).key != ROW.key


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "x.json is not JSON: Expecting property name"),
        ("[" * 100_000, "nested too deep"),
        ("[]", "x.json: expected an object, and it is []"),
        ("{}", "x.json has no field format: it is not a report; name a file that meshlib bench --json has written"),
        ('{"format": 2}', "is a report of format 2, and this version of meshlib reads format 1; measure again"),
        ('{"format": true}', "is a report of format True"),
        ('{"format": 1}', "field machine is missing"),
    ],
)
def test_what_is_not_a_report_is_refused(text: str, said: str) -> None:
    with pytest.raises(UnreadableReport) as refused:
        Report.from_json(text, "x.json")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("seconds",), "1", "field seconds: expected a number, and it is '1'"),
        (("machine", "cpus"), None, "field machine.cpus: expected a number, and it is None"),
        (("machine", "cpu"), "\ud800", "field machine.cpu: expected text, and it is '\\ud800'"),
        (("machine", "\ud800"), 1, "field machine: expected text, and it is '\\ud800'"),
        (("rows", 0, "measures", "\ud800"), {}, "rows[0].measures: expected text, and it is '\\ud800'"),
        (("notes", 0), 7, "field notes[0]: expected a string, and it is 7"),
        (
            ("rows", 0, "group"),
            "lib",
            "rows[0].group: expected one of library, grpc, proxy, servers, scale, mechanisms",
        ),
        (("rows", 0, "in_flight"), True, "rows[0].in_flight: expected an integer, and it is True"),
        (("rows", 0, "measures", "p50", "values"), [], "rows[0].measures.p50.values: expected at least one value"),
        (("rows", 0, "measures", "p50", "values", 1), 10**400, "values[1]: expected a finite number, and it is 1000"),
        (("rows", 0, "latencies"), [[1.0]], "rows[0].latencies[0]: expected a pair of milliseconds and a count"),
        (("rows", 0, "latencies"), [[1.0, -1]], "rows[0].latencies[0][1]: expected a count of requests, and it is -1"),
        (("rows", 0, "latencies"), [[1.0, 10**29]], "rows[0].latencies[0][1]: expected a count of requests"),
        (
            ("rows", 0, "measures", "p50", "unit"),
            "\ud800",
            "rows[0].measures.p50.unit: expected text, and it is '\\ud800'",
        ),
    ],
)
def test_a_wrong_value_is_named_by_its_place(path: tuple[str | int, ...], value: object, said: str) -> None:
    whole: Any = json.loads(REPORT.to_json())
    into = whole
    for step in path[:-1]:
        into = into[step]
    into[path[-1]] = value
    with pytest.raises(UnreadableReport) as refused:
        Report.from_json(json.dumps(whole), "x.json")
    assert said in str(refused.value)
    assert "measure again" in str(refused.value)

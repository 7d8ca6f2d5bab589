"""Families of our tables, as prometheus_client's consumers read them."""

from __future__ import annotations

from meshlib.telemetry.table_families import LabelText, number
from meshlib.telemetry.tables import CallTable, CountTable


def test_labels_are_written_by_name_whichever_way_they_are_declared():
    text_of = LabelText(("z", "le_", "a"))
    assert text_of.around(("1", "2", 'q"'), "") == ("", 'a="q\\"",le_="2",z="1"')
    assert text_of.around(("1", "2", "3"), "le") == ('a="3"', 'le_="2",z="1"')


def test_whole_numbers_are_written_as_go_writes_them():
    assert [number(n) for n in (0, 999_999, 1_000_000, 12_345_678)] == ["0.0", "999999.0", "1e+06", "1.2345678e+07"]


def test_samples_are_made_once_and_stay_what_they_were():
    table = CallTable(("calls_total", ""), ("took", ""), ("a",), (1, 2))
    table.labels("x").observe(1.5)
    requests, took = table.collect()
    assert [sample.value for sample in requests.samples if sample.name == "calls_total"] == [1.0]
    table.labels("x").observe(1.5)
    assert requests.samples[0].value == 1.0
    assert [sample.value for sample in took.samples if sample.name == "took_bucket"] == [0.0, 2.0, 2.0]


def test_an_exemplar_is_a_sample_s():
    table = CallTable(("calls_total", ""), ("took", ""), ("a",), (1,))
    series = table.labels("x")
    series.observe(0.5)
    series.exemplars = [(0xABC, 0xD, 0.5, 12.0), None]
    _, took = table.collect()
    first, last = (sample for sample in took.samples if sample.name == "took_bucket")
    assert first.exemplar is not None
    assert (dict(first.exemplar.labels), first.exemplar.value, first.exemplar.timestamp) == (
        {"trace_id": f"{0xABC:032x}", "span_id": f"{0xD:016x}"},
        0.5,
        12.0,
    )
    assert last.exemplar is None


def test_a_counter_s_name_has_its_ending_once():
    table = CountTable("meshlib_things_total", "", ())
    table.labels().inc()
    (family,) = table.collect()
    assert (family.name, next(sample.name for sample in family.samples)) == ("meshlib_things", "meshlib_things_total")

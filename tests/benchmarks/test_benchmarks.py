"""The benchmark harness: its statistics are right, and its rows are made of real calls."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.measure import Row, interleaved, median_us, percentile_us


def test_medians_and_percentiles_are_of_all_samples():
    samples = [n / 1e6 for n in range(1, 102)]
    assert median_us(samples) == pytest.approx(51)
    assert percentile_us(samples, 99) == pytest.approx(100)


def test_rounds_are_interleaved():
    order = []
    samples = interleaved([lambda: order.append("a"), lambda: order.append("b")], rounds=2, calls=2, warm_up=0)
    assert "".join(order) == "aabbaabb"
    assert [len(s) for s in samples] == [4, 4]


@pytest.mark.parametrize(
    ("value", "lower", "met"), [(0.5, True, True), (0.7, True, False), (9.0, False, True), (7.0, False, False)]
)
def test_a_row_knows_whether_its_target_is_met(value, lower, met):
    assert Row("x", value, "x", 0.6 if lower else 8.0, lower_is_better=lower).met is met


def test_a_quick_run_prints_rows_and_writes_them_as_json(tmp_path):
    file = tmp_path / "rows.json"
    result = CliRunner().invoke(main, ["--quick", "--only", "policy", "--only", "sync", "--json", str(file)])
    assert result.exit_code == 0, result.output
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    assert rows["policy cost of one call"]["value"] > 0
    assert rows["httpx.Client p50, mesh.client() / bare"]["extra"]["mesh_us"] > 10
    assert "policy cost of one call" in result.output

"""The benchmark harness: its statistics are right, and its rows are made of real calls."""

from __future__ import annotations

import json

import httpx
import pytest
from click.testing import CliRunner

import meshlib
from benchmarks import synthetic
from benchmarks.__main__ import main
from benchmarks.grpc_rows import client_samples
from benchmarks.measure import Row, interleaved, median_us, percentile_us
from benchmarks.rows import all_answered


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


def test_calls_that_are_not_answered_are_not_measured():
    answers = [httpx.Response(200), httpx.Response(503, text="no healthy upstream")]
    with pytest.raises(RuntimeError, match="503 no healthy upstream"):
        all_answered(lambda: answers.pop(0))


@pytest.mark.parametrize("resources", [synthetic.reviews, synthetic.grpc_reviews])
def test_each_version_has_endpoints(resources):
    """Two each: an address is one pod's only."""
    with meshlib.Mesh.from_resources(resources(1234)) as mesh:
        snapshot = mesh._core.live.snapshot
        found = {c.subset: [e.address for e in c.endpoints] for c in snapshot.clusters.values() if c.subset}
    assert found == {version: list(addresses) for version, addresses in synthetic.ADDRESSES.items()}


def test_grpc_rows_are_made_of_real_calls_by_all_three_ways(tmp_path):
    file = tmp_path / "rows.json"
    result = CliRunner().invoke(main, ["--quick", "--only", "grpc", "--only", "grpc-policy", "--json", str(file)])
    assert result.exit_code == 0, (result.output, result.exception)
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    assert 1 < rows["policy cost of one gRPC call"]["value"] < 1000
    for name in ("grpcio", "grpc.aio"):
        for way, target in (("mesh channel", 1.06), ("xds:///", None)):
            row = rows[f"{name} unary p50, {way} / bare"]
            assert row["target"] == target
            assert min(row["extra"].values()) > 50, "no call over a socket is that fast"
            assert row["value"] == pytest.approx(row["extra"].popitem()[1] / row["extra"]["bare_us"])
        for kind in ("server streaming", "bidirectional"):
            row = rows[f"{name} {kind}, messages/s, mesh channel / bare"]
            assert row["target"] == 0.95
            assert not row["lower_is_better"]
            assert min(row["extra"].values()) > 100


def test_a_client_process_that_fails_is_an_error_and_not_a_figure():
    with pytest.raises(RuntimeError, match=r"benchmarks.grpc_calls nowhere 1 --quick failed"):
        client_samples("nowhere", 1, {}, quick=True)

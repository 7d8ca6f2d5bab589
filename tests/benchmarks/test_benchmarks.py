"""The benchmark harness: its statistics are right, and its rows are made of real calls."""

from __future__ import annotations

import json

import httpx
import pytest
from click.testing import CliRunner

import meshlib
from benchmarks import measure, synthetic
from benchmarks.__main__ import main
from benchmarks.grpc_rows import client_samples
from benchmarks.measure import Row, interleaved, median_us, percentile_us
from benchmarks.sync_rows import all_answered

pytestmark = pytest.mark.slow


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
    only = [argument for name in ("policy", "sync", "async", "hash") for argument in ("--only", name)]
    result = CliRunner().invoke(main, ["--quick", *only, "--json", str(file)])
    assert result.exit_code == 0, result.output
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    assert rows["policy cost of one call"]["value"] > 0
    assert rows["httpx.Client p50, mesh.client() / bare"]["extra"]["mesh_us"] > 10
    printed = {line[:64].strip(): line for line in result.output.splitlines()}
    assert printed.keys() == rows.keys()
    for name, row in rows.items():
        if row["unit"] == "us" or "mesh_us" in row["extra"]:
            assert row["json"] > 0
            assert f" {row['json']:.1f} json " in printed[name]
    assert {name: row["target"] for name, row in rows.items() if row["unit"] == "x"} == {
        "httpx.Client p50, mesh.client() / bare": 0.35,
        "httpx.Client p50, own client with mesh.http_transport() / bare": 0.52,
        "httpx.Client p50, mesh.client() / http.client": None,
        "httpx.Client p50, own client, same transport / http.client": None,
        "httpx.AsyncClient p50, mesh.async_client() / bare": 0.27,
        "httpx.AsyncClient at 32 in flight, requests/s, mesh / bare": 18.0,
    }


class Machine:
    """A machine that is sometimes busy: ``json.loads`` takes 2 us on it at best, and ``work`` 14."""

    def __init__(self) -> None:
        self.now, self.rounds = 0.0, 0

    def perf_counter(self) -> float:
        return self.now

    def loads(self, text: str) -> None:
        assert json.loads(text) == {"a": 1, "b": [1, 2, 3]}
        self.now += 2e-6 * self.slowness

    def work(self) -> None:
        self.now += 14e-6 * self.slowness

    @property
    def slowness(self) -> int:
        self.rounds += 1
        return 1 if 2200 < self.rounds <= 4500 else 9


@pytest.fixture
def machine(monkeypatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(measure, "time", made)
    monkeypatch.setattr(measure, "json", made)
    return made


def test_a_cost_is_told_in_json_loads_of_the_same_run_the_best_rounds_of_both(machine):
    cost = measure.cost_of(machine.work, 100, rounds=7)
    assert cost.json == pytest.approx(7.0)
    assert cost.us == pytest.approx(9 * 14.0), "the median round, on a machine that is mostly busy"
    machine.rounds = 0
    assert measure.cost_of(machine.work, 100, per=2).json == pytest.approx(3.5)


async def test_so_is_that_of_a_coroutine(machine):
    async def work() -> None:
        machine.work()

    cost = await measure.cost_of_async(work, 100)
    assert (cost.us, cost.json) == (pytest.approx(9 * 14.0), pytest.approx(7.0))


def test_the_unit_is_taken_beside_each_round_and_the_best_one_counts(machine):
    unit = measure.Unit()
    (samples,) = interleaved([machine.work], rounds=6, calls=3, warm_up=0, unit=unit)
    assert unit.us == pytest.approx(2.0)
    assert machine.rounds == 6 * (1000 + 3)
    assert measure.best_median_us(samples, 6) == pytest.approx(14.0)
    assert samples[0] == pytest.approx(9 * 14e-6)


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
    assert rows["policy cost of one gRPC call"]["value"] > 1
    assert rows["policy cost of one gRPC call"]["json"] > 0
    assert rows["policy cost of one gRPC call, aio"]["json"] > 0
    for name in ("grpcio", "grpc.aio"):
        for way, target in (("mesh channel", 1.05), ("xds:///", None)):
            row = rows[f"{name} unary p50, {way} / bare"]
            assert row["target"] == target
            assert min(row["extra"].values()) > 50, "no call over a socket is that fast"
            assert row["json"] > 1
            assert row["value"] == pytest.approx(row["extra"].popitem()[1] / row["extra"]["bare_us"])
        for kind in ("server streaming", "bidirectional"):
            row = rows[f"{name} {kind}, messages/s, mesh channel / bare"]
            assert row["target"] == 0.95
            assert not row["lower_is_better"]
            assert min(row["extra"].values()) > 100


def test_a_client_process_that_fails_is_an_error_and_not_a_figure():
    with pytest.raises(RuntimeError, match=r"benchmarks.grpc_calls nowhere 1 --quick failed"):
        client_samples("nowhere", 1, {}, quick=True)


def test_grpc_mtls_rows_are_made_of_real_calls_by_every_way(tmp_path):
    file = tmp_path / "rows.json"
    result = CliRunner().invoke(main, ["--quick", "--only", "grpc-mtls", "--json", str(file)])
    assert result.exit_code == 0, (result.output, result.exception)
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    assert len(rows) == 12
    assert [name for name, row in rows.items() if row["target"] == 0.8] == [
        "gRPC unary/s over mTLS / plain text, 64 B, 16 in flight, both splices"
    ]
    for row in rows.values():
        assert not row["lower_is_better"]
        assert min(row["extra"].values()) > 20, "no call over a socket is that fast"

"""``make bench ARGS="--only bench"`` measures the rows of ``meshlib bench``."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from benchmarks import scene_rows
from benchmarks.__main__ import GROUPS, ROWS, main
from meshlib.bench import plan
from meshlib.bench.processes import NotMeasured


def test_each_group_of_meshlib_bench_is_a_name_of_make_bench():
    assert GROUPS["bench"] == tuple(f"bench-{group}" for group in plan.ONLY)
    assert set(GROUPS["bench"]) <= ROWS.keys()


def test_its_rows_tell_the_cpu_of_a_call(monkeypatch):
    few = plan.Part(plan.LIBRARY, plan.ASYNCIO, (plan.BARE,), (plan.Point(1),))
    monkeypatch.setattr(plan, "quick", lambda group: [few])
    monkeypatch.setattr(plan, "QUICK", plan.Pace(1, 0.05))
    made = CliRunner().invoke(main, ["--quick", "--only", "bench-library"])
    assert made.exit_code == 0, made.output
    assert "library: bare httpx, asyncio, 1 in flight, 1 kB" in made.output
    rows = [row for row in scene_rows.scene_rows(plan.LIBRARY, True) if row.unit]
    assert [row.value > 0 for row in rows] == [True]


def test_what_is_left_out_is_said(monkeypatch):
    def nothing(settings: object) -> None:
        raise NotMeasured("no nginx here")

    monkeypatch.setattr("meshlib.bench.scene.opened", nothing)
    assert [row.details for row in scene_rows.scene_rows(plan.PROXY_ONLY, True)] == [
        "not measured: proxy (generator) is left out: no nginx here"
    ]


@pytest.mark.parametrize("name", GROUPS["bench"])
def test_without_their_names_they_are_not_measured(monkeypatch, name):
    asked: list[bool] = []
    for each in ROWS:
        monkeypatch.setitem(ROWS, each, lambda quick, each=each: asked.append(each) or [])
    CliRunner().invoke(main, ["--quick"])
    assert name not in asked
    assert len(asked) == len(ROWS) - len(GROUPS["bench"])

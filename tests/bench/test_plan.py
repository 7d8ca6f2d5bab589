"""What is measured."""

from __future__ import annotations

import pytest

from meshlib.bench import plan
from meshlib.bench.plan import Part
from meshlib.bench.result import GROUPS
from meshlib.bench.rounds import Runner


def seconds(parts: list[Part], pace: plan.Pace) -> float:
    runner = Runner(pace, lambda _: None, lambda _: None)
    return sum(runner.seconds(part) for part in parts)


def test_quick_is_under_a_minute_and_has_what_is_asked_first() -> None:
    parts = plan.quick(None)
    assert seconds(parts, plan.QUICK) < 55
    assert {(part.group, part.world) for part in parts} == {("library", "asyncio"), ("grpc", "asyncio")}
    assert {(point.in_flight, point.body) for part in parts for point in part.points} == {(1, 1024), (32, 1024)}


def test_all_of_it_is_less_than_two_hours() -> None:
    assert seconds(plan.full(None), plan.FULL) < 2 * 3600


@pytest.mark.parametrize("only", plan.ONLY)
def test_only_one_group_is_measured_if_it_is_asked_for(only: str) -> None:
    assert only in GROUPS
    assert {part.group for part in plan.full(only)} == {only}


def test_what_a_way_is_told_against_takes_turns_with_it() -> None:
    for part in [*plan.full(None), *plan.quick(None)]:
        names = [way.name for way in part.ways]
        assert len(set(names)) == len(names)
        assert all(way.baseline is None or way.baseline in names for way in part.ways), part


def test_no_row_is_measured_twice() -> None:
    rows = [
        (part.group, part.world, way.name, point, part.settings)
        for part in plan.full(None)
        for way in part.ways
        for point in part.points
    ]
    assert len(set(rows)) == len(rows)


def test_what_is_compared_is_measured() -> None:
    names = {way.name for part in plan.full(None) for way in part.ways}
    assert {name for pair in plan.COMPARED for name in pair} <= names


def test_a_way_whose_module_is_not_installed_is_left_out_and_said() -> None:
    assert plan.missing(plan.Way("x", "x", needs="no_such_module")) == (
        "x is left out: the module no_such_module is not installed"
    )
    assert plan.missing(plan.BARE) == ""


def test_xds_is_left_out_where_its_messages_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_parent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.util.find_spec", no_parent)
    assert plan.missing(plan.XDS_GRPC).startswith("grpcio xds:/// is left out: the module envoy.service.discovery")
    assert plan.missing(plan.XDS_GRPC).endswith("is not installed (pip install 'sidecarless[envoy]')")


@pytest.mark.parametrize("group", plan.ONLY)
def test_every_group_is_measured_with_1_with_100_and_with_10_000_rules(group: str) -> None:
    for world in {part.world for part in plan.full(group)}:
        assert {part.settings.rules for part in plan.full(group) if part.world == world} == {1, 100, 10_000}


@pytest.mark.parametrize(("group", "pace"), [("grpc", plan.Pace(22, 0.25)), ("library", plan.Pace(11, 0.5))])
def test_rounds_of_grpc_are_twice_as_many_and_half_as_long(group: str, pace: plan.Pace) -> None:
    assert plan.pace_of(plan.Pace(11, 0.5), group) == pace

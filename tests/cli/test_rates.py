"""What has happened between two looks."""

from __future__ import annotations

from typing import Any

from meshlib.cli.rates import rates


def look(at: float, *hosts: tuple[str, list[int], int], direction: str = "made") -> dict[str, Any]:
    return {
        "at": at,
        "bounds": [1.0, 10.0],
        "hosts": [
            {"direction": direction, "host": host, "calls": sum(counts), "errors": errors, "counts": counts, "active": 1,
             "endpoints": 3, "ejected": 1, "unusable": 2}
            for host, counts, errors in hosts
        ],
    }  # fmt: skip


def test_rates_are_of_the_interval_alone():
    (found,) = rates(look(10.0, ("a", [100, 0, 0], 50)), look(12.0, ("a", [100, 4, 0], 51)))
    assert (found.calls_per_second, found.errors) == (2.0, 0.25)
    assert (found.p50, found.p99) == (5.5, 9.91)
    assert (found.active, found.endpoints, found.ejected, found.unusable) == (1, 3, 1, 2)


def test_a_host_that_is_new_counts_whole_and_so_does_one_that_began_anew():
    found = rates(look(0.0, ("b", [9, 0, 0], 0)), look(1.0, ("a", [0, 3, 0], 0), ("b", [2, 0, 0], 1)))
    assert [(each.host, each.calls_per_second, each.errors) for each in found] == [("a", 3.0, 0.0), ("b", 2.0, 0.5)]


def test_without_calls_there_are_no_percentiles():
    (found,) = rates(look(0.0, ("a", [1, 0, 0], 1)), look(1.0, ("a", [1, 0, 0], 1)))
    assert (found.calls_per_second, found.errors, found.p50, found.p99) == (0.0, 0.0, None, None)
    assert found.to_dict()["p50"] is None


def test_the_busiest_comes_first_then_by_name():
    found = rates(look(0.0), look(1.0, ("c", [1, 0, 0], 0), ("b", [5, 0, 0], 0), ("a", [1, 0, 0], 0)))
    assert [each.host for each in found] == ["b", "a", "c"]


def test_two_looks_at_one_moment_divide_by_no_zero():
    assert rates(look(1.0, ("a", [1, 0, 0], 0)), look(1.0, ("a", [1, 0, 0], 0)))[0].host == "a"

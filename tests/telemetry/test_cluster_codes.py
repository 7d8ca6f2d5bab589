"""Calls by cluster and status: only those that came as far as a cluster."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from meshlib.telemetry.cluster_codes import ClusterCodes


class Series:
    def __init__(self) -> None:
        self.seen: list[float] = []

    def observe(self, milliseconds: float, /) -> None:
        self.seen.append(milliseconds)


def record(status: int = 200, flags: str = "", cluster: str | None = "c") -> Any:
    destination = None if cluster is None else SimpleNamespace(cluster=cluster)
    return SimpleNamespace(destination=destination, status=status, flags=flags)


def test_a_call_counts_for_its_cluster_and_in_its_own_series() -> None:
    codes, series = ClusterCodes(), Series()
    codes.around(series, record()).observe(1.5)
    codes.around(series, record(503, "UF,URX")).observe(2.5)
    codes.around(series, record()).observe(3.5)
    assert codes.read() == {("c", 200): 2, ("c", 503): 1}
    assert series.seen == [1.5, 2.5, 3.5]


@pytest.mark.parametrize(
    "ended",
    [record(404, "NR", None), record(503, "NC", ""), record(0, "DC"), record(500, "FI"), record(500, "DI,FI")],
    ids=["no route", "no cluster", "the caller gave up", "an injected abort", "after a delay"],
)
def test_what_came_to_no_cluster_counts_for_none(ended: Any) -> None:
    codes, series = ClusterCodes(), Series()
    assert codes.around(series, ended) is series
    assert codes.read() == {}

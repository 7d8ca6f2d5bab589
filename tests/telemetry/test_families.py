"""The metrics of a mesh in a registry of the program's: what is said when it does not take them."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.registry import Collector

import meshlib
from meshlib.errors import MeshError


class Refusing(CollectorRegistry):
    """Takes ``most`` collectors, then none until told."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def register(self, collector: Collector) -> None:
        if self.most <= 0:
            raise ValueError("this registry is full")
        self.most -= 1
        super().register(collector)


@pytest.mark.parametrize("taken", range(7))
def test_a_registry_that_takes_no_collectors_is_told_to_whoever_makes_the_mesh(taken: int) -> None:
    refusing = Refusing(taken)
    with pytest.raises(MeshError) as caught:
        meshlib.Mesh.from_resources([], registry=refusing)
    said = str(caught.value)
    assert "the metrics of the mesh cannot be registered in registry=" in said
    assert "(ValueError: this registry is full): give the mesh one of its own" in said
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_metric_of_the_program_that_has_the_name_of_one_of_ours_is_named() -> None:
    registry = CollectorRegistry()
    Counter("istio_requests", "The program's own.", registry=registry)
    with pytest.raises(MeshError, match=r"Duplicated timeseries.*istio_requests_total"):
        meshlib.Mesh.from_resources([], registry=registry)


def test_what_a_registry_has_refused_once_is_registered_with_the_next_mesh() -> None:
    refusing = Refusing(most=0)
    with pytest.raises(MeshError):
        meshlib.Mesh.from_resources([], registry=refusing)
    refusing.most = 100
    with meshlib.Mesh.from_resources([], registry=refusing):
        assert b"meshlib_config_info" in generate_latest(refusing)

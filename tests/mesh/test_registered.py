"""What a mesh has in a registry ends with it, and one that is refused while it is made leaves nothing at work."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult
from prometheus_client import CollectorRegistry, Gauge

import meshlib
from meshlib.mesh.alive import meshes
from meshlib.problems import MeshError
from meshlib.transport.core.mesh_core import MeshCore
from tests.support.fake_clock import FakeClock
from tests.support.identities import World
from tests.support.resources import service


class Exporter(MetricExporter):
    """Tells when its reader, a thread of OpenTelemetry's SDK, has let it go."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = threading.Event()

    def export(self, metrics_data: object, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self.ended.set()


class Made:
    """The cores that were made meanwhile, and the readers that have begun to export."""

    def __init__(self) -> None:
        self.cores: list[MeshCore] = []
        self.exporting: list[object] = []


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    from opentelemetry.sdk.metrics import MeterProvider

    kept = Made()
    core, provider = MeshCore.__init__, MeterProvider.__init__

    def made_core(self: MeshCore, *given: Any, **named: Any) -> None:
        kept.cores.append(self)
        core(self, *given, **named)

    def made_provider(self: MeterProvider, *given: Any, **named: Any) -> None:
        kept.exporting.append(self)
        provider(self, *given, **named)

    monkeypatch.setattr(MeshCore, "__init__", made_core)
    monkeypatch.setattr(MeterProvider, "__init__", made_provider)
    return kept


@contextlib.contextmanager
def taken_port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        yield f"127.0.0.1:{busy.getsockname()[1]}"


def with_family(name: str) -> CollectorRegistry:
    """A registry that refuses a collector with a family of this name."""
    registry = CollectorRegistry()
    Gauge(name, "of the program itself", registry=registry)
    return registry


OPTIONS = {
    "https_rules": {"https_rules": "perhaps"},
    "the format of a log": {"access_log_format": "nothing"},
    "the rate of a log": {"access_log_rate": "often"},
    "an address that is none": {"admin": "nowhere"},
    "an endpoint that is none": {"endpoints": {"reviews": "!!"}},
    "an exporter that is none": {"metric_exporter": 3},
}
OWNER = {"workload": "unknown", "namespace": "default", "mesh": ""}
LATER: dict[str, Callable[[], dict[str, object]]] = {
    "a subset that is not there": lambda: {"endpoints": {"reviews": {"v9": "localhost:9081"}}},
    "a registry that has a family of its state": lambda: {"registry": with_family("meshlib_config_resources")},
    "a registry that has a family of Envoy's": lambda: {"registry": with_family("envoy_cluster_upstream_rq")},
}


def refused(tmp_path: Path, **options: Any) -> tuple[MeshError, Exporter, World]:
    """What is said of a mesh with all that such a mesh can have."""
    exporter, world = Exporter(), World(of_a_mesh=True)
    given = {"registry": CollectorRegistry(), "metric_exporter": exporter, "access_log": tmp_path / "log", **options}
    with pytest.raises(MeshError) as error:
        meshlib.Mesh.from_resources(
            [service("reviews")], clock=FakeClock(), identity=world.identity, envoy_metrics=True, **given
        )
    return error.value, exporter, world


def nothing_is_at_work(made: Made, exporter: Exporter, world: World) -> None:
    assert [core for core in made.cores if not core.closed or not core.alarms.closed] == []
    assert [mesh for mesh in meshes if mesh._core in made.cores and not mesh._core.closed] == []
    assert not made.exporting or exporter.ended.wait(30.0), "the thread that exports has ended"
    meshlib.Mesh.from_resources([], identity=world.identity).close()  # which an open mesh would not let go


@pytest.mark.parametrize("what", OPTIONS)
def test_options_that_are_refused_have_put_nothing_into_the_registry(what: str, made: Made, tmp_path: Path) -> None:
    registry = CollectorRegistry()
    _, exporter, world = refused(tmp_path, registry=registry, **OPTIONS[what])
    nothing_is_at_work(made, exporter, world)
    assert list(registry.collect()) == []


@pytest.mark.parametrize("what", LATER)
def test_what_only_the_whole_mesh_can_tell_leaves_nothing_at_work(what: str, made: Made, tmp_path: Path) -> None:
    options = LATER[what]()
    _, exporter, world = refused(tmp_path, **options)
    assert made.cores, "it was refused late"
    nothing_is_at_work(made, exporter, world)


def test_an_admin_address_that_is_taken_leaves_no_series_of_the_mesh(made: Made, tmp_path: Path) -> None:
    registry = CollectorRegistry()
    with taken_port() as address:
        _, exporter, world = refused(tmp_path, registry=registry, admin=address)
    nothing_is_at_work(made, exporter, world)
    assert [sample for family in registry.collect() for sample in family.samples] == []
    with meshlib.Mesh.from_resources([service("reviews")], registry=registry, envoy_metrics=True):
        assert registry.get_sample_value("meshlib_config_resources", OWNER) == 1.0


def test_a_registry_that_has_refused_envoys_statistics_refuses_them_again() -> None:
    registry = with_family("envoy_cluster_upstream_rq")
    for _ in range(2):
        with pytest.raises(MeshError, match="cannot be registered in registry="):
            meshlib.Mesh.from_resources([service("reviews")], registry=registry, envoy_metrics=True)


def test_series_end_when_the_mesh_is_closed() -> None:
    registry = CollectorRegistry()
    mesh = meshlib.Mesh.from_resources([service("reviews")], registry=registry, envoy_metrics=True)
    assert registry.get_sample_value("meshlib_config_resources", OWNER) == 1.0
    mesh.close()
    assert registry.get_sample_value("meshlib_config_resources", OWNER) is None

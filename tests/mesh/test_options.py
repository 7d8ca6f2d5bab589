"""The options of a mesh are written once, and each way to make one takes and shows them all."""

from __future__ import annotations

import inspect
import pydoc

import pytest

import meshlib
from meshlib.mesh.options import MeshOptions
from meshlib.problems import MeshError
from tests.support.fake_clock import FakeClock
from tests.support.resources import service

NAMES = [
    "workload",
    "clock",
    "seed",
    "retry_wait",
    "registry",
    "tracer_provider",
    "metric_exporter",
    "envoy_metrics",
    "https_rules",
    "identity",
    "endpoints",
    "admin",
    "gateways",
    "automatic_addresses",
    "access_log",
    "access_log_format",
    "access_log_rate",
]
WAYS = ("__init__", "from_path", "from_yaml", "from_resources", "from_env")


@pytest.mark.parametrize("way", WAYS)
def test_each_option_is_in_the_signature_with_its_default(way):
    parameters = inspect.signature(getattr(meshlib.Mesh, way)).parameters
    assert list(MeshOptions.__annotations__) == NAMES
    assert [name for name in parameters if name in NAMES] == NAMES
    assert {name: parameters[name].default for name in NAMES} == {
        **dict.fromkeys(NAMES),
        "https_rules": None if way == "from_env" else "mesh",
    }
    assert {parameters[name].kind for name in NAMES} == {inspect.Parameter.KEYWORD_ONLY}
    assert not any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    shown = pydoc.plain(pydoc.render_doc(getattr(meshlib.Mesh, way)))
    assert all(f"{name}:" in shown for name in NAMES)


def test_a_name_that_is_none_is_refused_before_anything_is_done():
    with pytest.raises(TypeError, match=r"Mesh.from_path\(\) got an unexpected keyword argument 'clocks'"):
        meshlib.Mesh.from_path("/nowhere", clocks=1)
    with pytest.raises(TypeError, match=r"Mesh.__init__\(\) got an unexpected keyword argument 'clocks'"):
        meshlib.Mesh(clocks=1)


def test_each_option_acts(tmp_path, monkeypatch):
    (tmp_path / "a.yaml").write_text("")
    monkeypatch.setenv("MESHLIB_CONFIG", str(tmp_path))
    clock, workload = FakeClock(), meshlib.Workload("me", namespace="mine")
    options = {"clock": clock, "workload": workload, "seed": 7}
    for mesh in (
        meshlib.Mesh(**options),
        meshlib.Mesh.from_path(tmp_path, watch=False, **options),
        meshlib.Mesh.from_yaml("", **options),
        meshlib.Mesh.from_resources([service("reviews")], **options),
        meshlib.Mesh.from_env(**options),
    ):
        with mesh:
            assert mesh.workload == workload
            assert mesh._core.clock is clock
    assert options == {"clock": clock, "workload": workload, "seed": 7}
    monkeypatch.setenv("MESHLIB_HTTPS_RULES", "istio")
    with meshlib.Mesh.from_env() as mesh, meshlib.Mesh.from_env(https_rules="mesh") as other:
        assert [each._configuration.compiler._https_rules for each in (mesh, other)] == ["istio", "mesh"]
    for wrong in ("both", None):
        with pytest.raises(MeshError, match="https_rules must be 'mesh' or 'istio'"):
            meshlib.Mesh(https_rules=wrong)

"""The Mesh of ``serve`` and ``proxy``: from files and from the environment of a Deployment."""

from __future__ import annotations

import pytest

from meshlib.cli.own_mesh import make_mesh
from meshlib.problems import ConfigError, MeshError
from meshlib.workload import Workload

WHO = Workload(namespace="shop")


def test_endpoints_of_the_environment_lie_in_the_namespace_of_the_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHLIB_ENDPOINTS", "reviews=127.0.0.1:9081")
    with make_mesh((), WHO, None, None, watch=False) as mesh:
        said = mesh.explain(url="http://reviews.shop.svc.cluster.local:9081/")
    assert "127.0.0.1:9081" in str(said)


def test_the_access_log_of_the_environment_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHLIB_ACCESS_LOG", "stdout")
    monkeypatch.setenv("MESHLIB_ACCESS_LOG_FORMAT", "%NO_SUCH_OPERATOR%")
    with pytest.raises(MeshError, match="NO_SUCH_OPERATOR"):
        make_mesh((), WHO, None, None, watch=False)


def test_endpoints_that_cannot_be_read_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHLIB_ENDPOINTS", "reviews=v1@:no-port")
    with pytest.raises(ConfigError, match="MESHLIB_ENDPOINTS"):
        make_mesh((), WHO, None, None, watch=False)

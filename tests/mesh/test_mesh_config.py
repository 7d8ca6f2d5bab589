"""MeshConfig in a mesh at work: what changes of it acts from the next call on."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import meshlib
from meshlib.problems import ConfigError
from tests.support.mesh_config import config_map, mesh_config

CLOSED = {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}


def status(mesh: meshlib.Mesh) -> int:
    with mesh.client() as client:
        return client.get("http://127.0.0.1:9/").status_code


def passes(mesh: meshlib.Mesh) -> bool:
    """Whether hosts that nobody knows are let through, as ``explain`` says."""
    return "ALLOW_ANY" in str(mesh.explain(url="http://nowhere.example/"))


def test_apply_changes_it():
    with meshlib.Mesh.from_resources([]) as mesh:
        assert passes(mesh)
        mesh.apply([config_map(**CLOSED)])
        assert not passes(mesh)
        assert status(mesh) == 502
        mesh.apply([mesh_config(outboundTrafficPolicy={"mode": "ALLOW_ANY"}), config_map(**CLOSED)])
        assert passes(mesh)


def test_one_that_is_wrong_leaves_the_last_one_in_force():
    with meshlib.Mesh.from_resources([config_map(**CLOSED)]) as mesh:
        with pytest.raises(ConfigError, match="not a trust domain"):
            mesh.apply([config_map(trustDomain="a_b")])
        assert not passes(mesh)
    with pytest.raises(ConfigError, match="not a trust domain"):
        meshlib.Mesh.from_resources([config_map(trustDomain="a_b")])


def test_files_that_are_followed(tmp_path: Path):
    file = tmp_path / "istio.yaml"
    file.write_text(yaml.safe_dump(config_map(**CLOSED)))
    (tmp_path / "other.yaml").write_text("# meshlib: empty\n")
    with meshlib.Mesh.from_path(tmp_path, watch=False) as mesh:
        assert not passes(mesh)
        file.write_text(yaml.safe_dump(config_map(outboundTrafficPolicy={"mode": "ALLOW_ANY"})))
        mesh.reload()
        assert passes(mesh)
        file.write_text(yaml.safe_dump(config_map(outboundTrafficPolicy={"mode": "SOME"})))
        mesh.reload()
        assert passes(mesh), "the last good version"
        file.write_text(yaml.safe_dump({**config_map(), "data": {"mesh": "outboundTrafficPolicy: ["}}))
        mesh.reload()
        assert passes(mesh)
        assert any(p["path"].startswith("data.mesh") for p in mesh.status()["problems"])

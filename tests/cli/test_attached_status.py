"""``meshlib status --attach``: what is said of a state."""

from __future__ import annotations

import os
from typing import Any

import pytest
from click.testing import CliRunner

import meshlib
from meshlib.cli.attached_status import _endpoint, _lines
from meshlib.cli.main import main
from tests.support.identities import World


@pytest.fixture(autouse=True)
def runtime(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def lines(mesh: meshlib.Mesh, **other: Any) -> str:
    return "\n".join(_lines({**mesh.status(), **other}))


def test_a_configuration_that_broke_says_what_it_holds_on_to(tmp_path):
    (tmp_path / "a.yaml").write_text("")
    with meshlib.Mesh.from_path(tmp_path / "a.yaml", watch=False) as mesh:
        source = {
            **mesh.status()["source"],
            "reloads": 2,
            "failed_reloads": 1,
            "last_good_kept": ["VirtualService/d/r"],
        }
        text = lines(mesh, source=source)
    assert f"0 resources of {tmp_path}/a.yaml, 2 reloads, 1 failed" in text
    assert "the last good version is in use of VirtualService/d/r" in text


def test_a_certificate_is_shown_with_its_end_or_that_there_is_none():
    world = World(of_a_mesh=True)
    with meshlib.Mesh.from_yaml("", identity=world.identity) as mesh:
        assert "certificate none yet  NOT READY" in lines(mesh)
        world.rotate()
        assert "certificate spiffe://cluster.local/" in lines(mesh)
        assert ", until 2" in lines(mesh)


def test_a_guard_says_where_it_stands():
    guard = {"resource": "ResiliencePolicy/d/r", "host": "r", "active": 3, "circuit_breaker": "open",
             "bulkhead": {"in_use": 3, "waiting": 1}, "concurrency_limit": 9}  # fmt: skip
    with meshlib.Mesh.from_yaml("") as mesh:
        assert (
            "ResiliencePolicy/d/r of r: 3 active, breaker open, bulkhead 3 in use, 1 waiting, concurrency limit 9"
            in lines(mesh, resilience=[guard])
        )


def test_endpoints_say_what_is_wrong_with_them():
    assert _endpoint({"address": "a:1", "usable": True, "ejected": False}) == "a:1"
    assert _endpoint({"address": "a:1", "usable": False, "ejected": False}) == "a:1 (not ready)"
    assert (
        _endpoint({"address": "a:1", "usable": False, "ejected": True, "ejected_for": 12.4})
        == "a:1 (ejected, 12 s left)"
    )
    assert _endpoint({"address": "a:1", "usable": False, "ejected": True, "ejected_for": None}) == "a:1 (ejected)"
    assert _endpoint({"address": "passed:1"}) == "passed:1"


def test_a_mesh_that_is_closed_is_said_to_be():
    with meshlib.Mesh.from_yaml("") as mesh:
        mesh.close()
        assert lines(mesh) == "the mesh is closed"


OLD = """\
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: r}
spec: {hosts: [r], http: [{route: [{destination: {host: r}}]}]}
"""


def test_problems_are_told_with_their_place(tmp_path):
    (tmp_path / "a.yaml").write_text(OLD)
    with meshlib.Mesh.from_path(tmp_path / "a.yaml", watch=False, admin="unix"):
        result = CliRunner().invoke(main, ["status", "--attach", str(os.getpid())])
    assert f"{tmp_path}/a.yaml:" in result.output

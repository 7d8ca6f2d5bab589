"""How reloads went, and how old the configuration in force is."""

from __future__ import annotations

import json

import pytest

import meshlib
from meshlib.errors import ConfigError
from meshlib.mesh.reloads import Reloads
from tests.support.fake_clock import FakeClock
from tests.support.resources import service, virtual_service

BROKEN = virtual_service("reviews", {"route": [{"destination": {"hst": "reviews"}}]})


def test_a_configuration_is_as_old_as_its_version():
    clock = FakeClock()
    reloads = Reloads(clock)
    reloads.took_effect("a")
    clock.advance(60.0)
    assert reloads.age == 60.0
    reloads.took_effect("a")
    assert reloads.age == 60.0, "what was read again was the same"
    reloads.took_effect("b")
    assert reloads.age == 0.0


def test_only_a_reload_that_took_everything_is_a_success():
    clock = FakeClock()
    reloads = Reloads(clock)
    made = reloads.succeeded
    for result in ("partly", "failed"):
        clock.advance(10.0)
        reloads.ended(result)
        assert reloads.succeeded == made
    reloads.ended("ok")
    assert reloads.succeeded == made + 20.0
    assert (reloads.results, reloads.failed) == ({"ok": 1, "partly": 1, "failed": 1}, 2)


def test_a_mesh_counts_reloads_of_files_and_apply_by_result(tmp_path):
    (tmp_path / "a.yaml").write_text(json.dumps(service("reviews")))
    with meshlib.Mesh.from_path(tmp_path, watch=False, clock=FakeClock()) as mesh:
        reloads = mesh._configuration.reloads
        assert reloads.results == {"ok": 0, "partly": 0, "failed": 0}
        mesh.reload()
        assert (reloads.read, reloads.results["ok"]) == (1, 1)
        (tmp_path / "b.yaml").write_text(json.dumps(BROKEN))
        mesh.reload()
        assert (reloads.read, reloads.results["partly"]) == (2, 1)
        with pytest.raises(ConfigError):
            mesh.apply([BROKEN])
        mesh.apply([])
        assert (reloads.read, reloads.results) == (2, {"ok": 2, "partly": 1, "failed": 1})
        assert mesh.status()["source"]["failed_reloads"] == 2

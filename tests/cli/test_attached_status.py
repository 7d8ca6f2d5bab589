"""``meshlib status --attach``: what is said of a state."""

from __future__ import annotations

import os
from typing import Any

import pytest
from click.testing import CliRunner

import meshlib
from meshlib.cli.attached_status import _connections, _endpoint, _lines, _span
from meshlib.cli.main import main
from tests.support.admin import runtime_folder
from tests.support.fake_clock import FakeClock
from tests.support.identities import World


@pytest.fixture(autouse=True)
def runtime(monkeypatch, tmp_path):
    runtime_folder(monkeypatch, tmp_path)


def lines(mesh: meshlib.Mesh, **other: Any) -> str:
    return "\n".join(_lines({**mesh.status(), **other}))


def test_a_configuration_that_broke_says_what_it_holds_on_to(tmp_path):
    (tmp_path / "a.yaml").write_text("")
    with meshlib.Mesh.from_path(tmp_path / "a.yaml", watch=False, clock=FakeClock()) as mesh:
        source = {
            **mesh.status()["source"],
            "reloads": 2,
            "failed_reloads": 1,
            "last_good_kept": ["VirtualService/d/r"],
        }
        text = lines(mesh, source=source)
    assert f", for 0s: 0 resources of {tmp_path}/a.yaml, 2 reloads, 1 failed" in text
    assert "the last good version is in use of VirtualService/d/r" in text


def test_a_certificate_is_shown_with_its_end_or_that_there_is_none():
    world = World(of_a_mesh=True)
    with meshlib.Mesh.from_yaml("", identity=world.identity) as mesh:
        assert "certificate none yet  NOT READY" in lines(mesh)
        world.rotate()
        assert "certificate spiffe://cluster.local/" in lines(mesh)
        assert ", until 2" in lines(mesh)


def test_a_guard_says_where_it_stands():
    guard = {
        "resource": "ResiliencePolicy/d/r",
        "host": "r",
        "active": 3,
        "circuit_breaker": "open",
        "bulkhead": {"in_use": 3, "waiting": 1},
        "retry_budget": {"retries": 2, "allowed": 30.0},
        "concurrency_limit": 9,
    }
    stands = "3 active, breaker open, bulkhead 3 in use, 1 waiting, 2 of 30 retries, concurrency limit 9"
    with meshlib.Mesh.from_yaml("") as mesh:
        assert f"ResiliencePolicy/d/r of r: {stands}" in lines(mesh, resilience=[guard])


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


def test_what_telemetry_has_dropped_is_told():
    with meshlib.Mesh.from_yaml("") as mesh:
        assert "dropped" not in lines(mesh, telemetry={"failures": 0, "dropped": {"access_log": 0}})
        assert "telemetry dropped: access_log 3" in lines(
            mesh, telemetry={"failures": 0, "dropped": {"access_log": 3, "x": 0}}
        )


def test_what_a_process_says_of_itself_reaches_the_terminal_as_text():
    workload = meshlib.Workload("\x1b[2Jweb")
    with meshlib.Mesh.from_yaml("", admin="unix", workload=workload):
        result = CliRunner().invoke(main, ["status", "--attach", str(os.getpid())])
    assert result.exit_code == 0
    assert r"\x1b[2Jweb.default" in result.output
    assert "\x1b" not in result.output


def test_spans_and_pools_in_few_words():
    assert [_span(each) for each in (0.9, 59, 3601, 90061, 86400)] == ["0s", "59s", "1h 1s", "1d 1h", "1d"]
    assert _connections(None) == "-"
    assert _connections({"busy": 1, "idle": 2}) == "1 busy, 2 idle"

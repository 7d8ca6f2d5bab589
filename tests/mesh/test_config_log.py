"""The log says what a new configuration has changed, in one line, and once what is wrong with it."""

from __future__ import annotations

import json
import logging

import httpx
import pytest

import meshlib
from meshlib.errors import ConfigError
from meshlib.mesh.config_log import NAMED
from tests.support.fake_clock import FakeClock
from tests.support.resources import destination_rule, pod, service, to, virtual_service

BASE = [service("reviews"), pod("reviews", "v1", 1), destination_rule("reviews", "v1")]
RULE = virtual_service("reviews", {"route": [to("reviews", "v1")]})
OTHER_RULE = virtual_service("reviews", {"route": [to("reviews")]})


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    found = [r.getMessage() for r in caplog.records if r.name == "meshlib.config" and r.levelno == level]
    caplog.clear()
    return found


@pytest.fixture(autouse=True)
def everything(caplog):
    caplog.set_level(logging.DEBUG, "meshlib")


def test_each_reload_is_one_line_that_names_what_was_added_changed_and_removed(caplog):
    with meshlib.Mesh.from_resources([*BASE, RULE]) as mesh:
        assert lines(caplog) == []
        mesh.apply([*BASE[:2], OTHER_RULE, service("ratings")])
        version = mesh.status()["version"]
        changed, *notices = lines(caplog)
        assert changed == (
            f"configuration {version}: added Service/default/ratings; changed VirtualService/default/reviews; "
            "removed DestinationRule/default/reviews"
        )
        assert notices == ["1 notice about the configuration: mesh.problems, or meshlib validate"]


def test_what_has_only_moved_has_not_changed(caplog):
    with meshlib.Mesh.from_resources([*BASE, RULE]) as mesh:
        mesh.apply([RULE, *reversed(BASE)])
        told = [(r.levelno, r.getMessage()) for r in caplog.records if r.name == "meshlib.config"]
        assert told == [(logging.DEBUG, f"configuration {mesh.status()['version']}: nothing has changed")]


def test_of_many_resources_some_are_named_and_the_others_counted(caplog):
    with meshlib.Mesh.from_resources(BASE) as mesh:
        mesh.apply([*BASE, *[service(f"s{n:02}") for n in range(NAMED + 3)]])
        line = lines(caplog)[0]
        assert f"Service/default/s{NAMED - 1:02} and 3 more" in line
        assert f"s{NAMED:02}" not in line


def test_files_that_are_read_again_tell_what_changed_in_them(caplog, tmp_path):
    file = tmp_path / "mesh.json"
    file.write_text("\n---\n".join(map(json.dumps, [*BASE, RULE])))
    with meshlib.Mesh.from_path(tmp_path, watch=False, clock=FakeClock()) as mesh:
        caplog.clear()
        file.write_text("\n---\n".join(map(json.dumps, [*BASE, OTHER_RULE])))
        mesh.reload()
        version = mesh.status()["version"]
        assert lines(caplog) == [f"configuration {version}: changed VirtualService/default/reviews"]


def test_warnings_are_told_when_the_mesh_begins_and_not_again_wherever_they_have_moved(caplog):
    lost = virtual_service("lost", {"route": [to("nowhere")]})
    with meshlib.Mesh.from_resources([*BASE, lost]) as mesh:
        (warning,) = lines(caplog, logging.WARNING)
        assert "nowhere" in warning
        assert "unknown-destination" in warning
        assert "hint: " in warning
        mesh.apply([service("ratings"), *BASE, lost])
        assert lines(caplog, logging.WARNING) == []


def test_many_warnings_are_counted(caplog):
    lost = [virtual_service(f"lost{n}", {"route": [to("nowhere")]}) for n in range(NAMED + 2)]
    with meshlib.Mesh.from_resources(lost):
        told = lines(caplog, logging.WARNING)
        assert len(told) == NAMED + 1
        assert told[-1] == "2 more warnings: mesh.problems has them, and meshlib validate"


def test_status_counts_reloads_that_failed(tmp_path):
    with meshlib.Mesh.from_resources(BASE) as mesh:
        with pytest.raises(ConfigError):
            mesh.apply([{"kind": "VirtualService"}])
        assert mesh.status()["failures"]["reloads"] == 1
        assert mesh.status()["source"]["reloads"] == 0
    file = tmp_path / "mesh.json"
    file.write_text("\n---\n".join(map(json.dumps, [*BASE, RULE])))
    with meshlib.Mesh.from_path(tmp_path, watch=False, clock=FakeClock()) as mesh:
        file.write_text("\n---\n".join(map(json.dumps, [*BASE, {**RULE, "spec": {"hosts": 3}}])))
        mesh.reload()
        assert mesh.status()["failures"]["reloads"] == 1, "a resource was refused, the rest has taken effect"
        assert mesh.status()["source"]["reloads"] == 1


def test_status_counts_calls_that_failed_by_what_happened():
    def upstream(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/down":
            raise httpx.ConnectError("refused")
        return httpx.Response(int(request.url.path[1:]))

    rule = virtual_service("reviews", {"route": [to("reviews")], "retries": {"attempts": 0}})
    empty = service("empty", port=9081)
    with meshlib.Mesh.from_resources([*BASE, rule, empty]) as mesh:
        transport = mesh.http_transport(inner=httpx.MockTransport(upstream))
        with httpx.Client(transport=transport, base_url="http://reviews:9080") as client:
            assert mesh.status()["failures"] == {
                "calls": 0, "calls_by_reason": {}, "checks": 0, "reloads": 0, "telemetry": 0, "alarms": 0, "mirrors": 0,
                "redis": 0,
            }  # fmt: skip
            for path in ("/200", "/404", "/500", "/503", "/503"):
                client.get(path)
            for _ in range(3):
                with pytest.raises(httpx.ConnectError):
                    client.get("/down")
            client.get("http://empty:9081/200")
        failures = mesh.status()["failures"]
        assert failures["calls_by_reason"] == {"500": 1, "503": 2, "UF": 3, "UH": 1}
        assert failures["calls"] == 7


def test_another_mesh_on_the_same_registry_has_counts_of_its_own():
    with meshlib.Mesh.from_resources([service("empty")]) as one, meshlib.Mesh.from_resources([service("empty")]) as two:
        with one.client() as client:
            assert client.get("http://empty:9080/").status_code == 503
        assert [mesh.status()["failures"]["calls"] for mesh in (one, two)] == [1, 0]

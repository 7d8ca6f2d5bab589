"""apply() is all or nothing; a watched edit that breaks some resources keeps their last good version."""

from __future__ import annotations

import json
import logging
import os
import threading
import time

import httpx
import pytest

import meshlib
from meshlib.errors import ConfigError, MeshError
from tests.support.resources import destination_rule, pod, service, to, virtual_service

BASE = [service("reviews"), pod("reviews", "v1", 1), pod("reviews", "v2", 2), destination_rule("reviews", "v1", "v2")]


def route_to(version: str) -> dict:
    return virtual_service("reviews", {"route": [to("reviews", version)]})


def subset(mesh: meshlib.Mesh) -> str:
    return mesh.explain(url="http://reviews:9080/").subset


def write(path, *resources: dict) -> None:
    text = "\n---\n".join(json.dumps(r) for r in resources)
    temporary = path.with_name("." + path.name)
    temporary.write_text(text)
    os.replace(temporary, path)


def wait_for(condition, seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)


def test_apply_swaps_the_whole_configuration():
    with meshlib.Mesh.from_resources([*BASE, route_to("v1")]) as mesh:
        assert subset(mesh) == "v1"
        before = mesh.status()["version"]
        mesh.apply([*BASE, route_to("v2")])
        assert subset(mesh) == "v2"
        assert mesh.status()["version"] != before


def test_apply_with_any_error_changes_nothing_and_names_every_problem():
    broken = route_to("v2")
    broken["spec"]["htttp"] = []
    worse = destination_rule("other")
    worse["spec"]["host"] = ""
    with meshlib.Mesh.from_resources([*BASE, route_to("v1")]) as mesh:
        with pytest.raises(ConfigError) as caught:
            mesh.apply([service("new"), broken, worse])
        assert {p.code for p in caught.value.problems} >= {"unknown-field", "missing-host"}
        assert "did you mean http?" in str(caught.value)
        assert subset(mesh) == "v1"


def test_the_same_configuration_has_the_same_version():
    with meshlib.Mesh.from_resources(BASE) as one, meshlib.Mesh.from_resources(BASE) as two:
        assert one.status()["version"] == two.status()["version"]


def test_from_path_refuses_a_broken_folder_with_every_problem(tmp_path):
    (tmp_path / "a.yaml").write_text("apiVersion: networking.istio.io/v1\nkind: VirtualService\nspec: {hots: [a]}\n")
    (tmp_path / "b.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigError) as caught:
        meshlib.Mesh.from_path(tmp_path)
    assert {p.file for p in caught.value.problems} == {str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")}
    assert "did you mean hosts?" in str(caught.value)


def test_from_path_says_what_is_missing(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        meshlib.Mesh.from_path(tmp_path / "nothing")


def test_from_env_reads_the_variables(tmp_path, monkeypatch):
    write(tmp_path / "all.json", *BASE)
    monkeypatch.setenv("MESHLIB_CONFIG", str(tmp_path))
    monkeypatch.setenv("MESHLIB_WORKLOAD", "productpage-v1")
    monkeypatch.setenv("MESHLIB_LABELS", "app=productpage,version=v1")
    monkeypatch.setenv("MESHLIB_NAMESPACE", "shop")
    with meshlib.Mesh.from_env() as mesh:
        assert (mesh.workload.name, mesh.workload.namespace) == ("productpage-v1", "shop")
        assert mesh.workload.labels == {"app": "productpage", "version": "v1"}


def test_from_env_without_configuration_says_what_to_set(monkeypatch):
    monkeypatch.delenv("MESHLIB_CONFIG", raising=False)
    with pytest.raises(MeshError, match="MESHLIB_CONFIG is not set"):
        meshlib.Mesh.from_env()


def test_a_watched_edit_takes_effect_without_restart(tmp_path):
    write(tmp_path / "base.json", *BASE)
    write(tmp_path / "route.json", route_to("v1"))
    with meshlib.Mesh.from_path(tmp_path) as mesh:
        assert subset(mesh) == "v1"
        write(tmp_path / "route.json", route_to("v2"))
        wait_for(lambda: subset(mesh) == "v2")


def test_without_watchfiles_a_look_twice_a_second_does(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "watchfiles", None)
    write(tmp_path / "base.json", *BASE, route_to("v1"))
    with meshlib.Mesh.from_path(tmp_path) as mesh:
        write(tmp_path / "base.json", *BASE, route_to("v2"))
        wait_for(lambda: subset(mesh) == "v2")


def test_a_broken_edit_keeps_the_last_good_version_of_just_what_broke(tmp_path, caplog):
    write(tmp_path / "base.json", *BASE)
    write(tmp_path / "route.json", route_to("v1"))
    write(tmp_path / "other.json", service("other"))
    with meshlib.Mesh.from_path(tmp_path, watch=False) as mesh:
        (tmp_path / "route.json").write_text("{not json")
        write(tmp_path / "other.json", service("other", port=1234))
        with caplog.at_level(logging.ERROR):
            mesh.reload()
            mesh.reload()
        assert subset(mesh) == "v1"
        assert mesh.explain(url="http://other:1234/").virtual_host.port == 1234
        status = mesh.status()
        assert status["source"]["last_good_kept"] == ["VirtualService/default/reviews"]
        assert [p["file"] for p in status["problems"] if p["severity"] == "error"] == [str(tmp_path / "route.json")]
        logged = [r for r in caplog.records if "route.json" in r.getMessage()]
        assert len(logged) == 1  # once, not at every reload
        write(tmp_path / "route.json", route_to("v2"))
        mesh.reload()
        assert subset(mesh) == "v2"
        assert mesh.status()["source"]["last_good_kept"] == []


def test_one_broken_document_does_not_hold_back_the_good_ones_of_its_file(tmp_path):
    write(tmp_path / "all.json", *BASE, route_to("v1"))
    with meshlib.Mesh.from_path(tmp_path, watch=False) as mesh:
        broken = destination_rule("reviews", "v1", "v2")
        broken["spec"]["hosst"] = "x"
        write(tmp_path / "all.json", *BASE[:3], broken, route_to("v2"))
        mesh.reload()
        assert subset(mesh) == "v2"
        assert mesh.status()["source"]["last_good_kept"] == ["DestinationRule/default/reviews"]


def test_a_removed_file_removes_its_resources(tmp_path):
    write(tmp_path / "base.json", *BASE)
    write(tmp_path / "route.json", route_to("v1"))
    with meshlib.Mesh.from_path(tmp_path, watch=False) as mesh:
        (tmp_path / "route.json").unlink()
        mesh.reload()
        assert mesh.explain(url="http://reviews:9080/").resource == ""


def test_reload_without_files_says_what_to_do():
    with meshlib.Mesh.from_resources(BASE) as mesh, pytest.raises(MeshError, match="mesh.apply"):
        mesh.reload()


def test_no_thread_is_left_after_close(tmp_path):
    write(tmp_path / "base.json", *BASE)
    before = threading.active_count()
    for _ in range(3):
        with meshlib.Mesh.from_path(tmp_path):
            pass
    wait_for(lambda: threading.active_count() == before)


def test_fields_without_effect_are_named_not_ignored():
    rule = destination_rule("ratings", proxyProtocol={"version": "V1"})
    with meshlib.Mesh.from_resources([*BASE, rule]) as mesh:
        (notice,) = [p for p in mesh.problems if p.code == "no-effect"]
        assert notice.path == "DestinationRule/default/ratings"
        assert "trafficPolicy.proxyProtocol" in notice.message


def test_explain_gives_the_reason_for_each_rule_not_taken():
    rules = [
        {"name": "jason", "match": [{"headers": {"end-user": {"exact": "jason"}}}], "route": [to("reviews", "v2")]},
        {"match": [{"sourceLabels": {"app": "x"}}], "route": [to("reviews", "v2")]},
        {"route": [to("reviews", "v1", 90), to("reviews", "v2", 10)], "timeout": "3s"},
        {"match": [{"uri": {"prefix": "/late"}}], "route": [to("reviews", "v2")]},
    ]
    with meshlib.Mesh.from_resources([*BASE, virtual_service("reviews", *rules)]) as mesh:
        found = mesh.explain(method="GET", url="http://reviews:9080/a", headers={"End-User": "bob"})
    text = str(found)
    assert "http[0] jason: not taken: header end-user is 'bob', exact 'jason' wanted" in text
    assert "http[1]: not taken: not for this client: sourceLabels want app=x, this workload has no app" in text
    assert "-> http[2]: taken: matches everything" in text
    assert "http[3]: not taken: an earlier rule matched" in text
    assert "90 % to reviews.default.svc.cluster.local/v1 port 9080" in text
    data = json.loads(json.dumps(found.to_dict()))
    assert (data["resource"], data["rule"], data["timeout"]) == ("VirtualService/default/reviews", 2, 3.0)
    assert [d["share"] for d in data["destinations"]] == [90.0, 10.0]
    assert data["destinations"][0]["endpoints"][0]["address"] == "127.0.0.1:1"


def test_explain_wants_a_full_url():
    with meshlib.Mesh.from_resources(BASE) as mesh, pytest.raises(MeshError, match="full URL"):
        mesh.explain(url="/reviews")


def test_contract_of_client_helpers():
    with meshlib.Mesh.from_resources(BASE) as mesh:
        with mesh.client(base_url="http://reviews:9080", headers={"a": "b"}) as client:
            assert isinstance(client, httpx.Client)
            assert str(client.base_url) == "http://reviews:9080"

"""apply() is all or nothing; a watched edit that breaks some resources keeps their last good version."""

from __future__ import annotations

import gc
import json
import logging
import os
import threading
import time

import httpx
import pytest

import meshlib
from meshlib.errors import ConfigError, MeshError
from tests.support.fake_clock import FakeClock
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


def wait_for(condition, seconds: float = 20.0) -> None:
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


OTHER = [service("ratings"), pod("ratings", "v1", 3)]


def compiled_whole_by(mesh: meshlib.Mesh) -> int:
    return mesh._configuration.compiler.whole


@pytest.mark.parametrize("changed", [route_to("v2"), pod("reviews", "v1", 4)], ids=["rule", "endpoint"])
def test_apply_of_dicts_of_which_one_has_changed_leaves_the_rest_as_it_is(changed):
    with meshlib.Mesh.from_resources([*BASE, *OTHER, route_to("v1")]) as mesh:
        before = mesh._core.live
        ratings = before.cluster("outbound|9080||ratings.default.svc.cluster.local")
        mesh.apply([*BASE, *OTHER, *([changed] if changed["kind"] != "Pod" else [route_to("v1"), changed])])
        after = mesh._core.live
        assert compiled_whole_by(mesh) == 1
        assert after.snapshot.version != before.snapshot.version
        assert after.cluster(ratings.spec.key) is ratings


def test_one_changed_item_of_a_long_file_leaves_the_rest_as_it_is(tmp_path):
    path = tmp_path / "dump.json"

    def dump(version: str) -> None:
        items = [*BASE, *OTHER, route_to(version)]
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    dump("v1")
    with meshlib.Mesh.from_path(path, watch=False) as mesh:
        before = list(mesh._configuration.resources)
        dump("v2")
        mesh.reload()
        assert subset(mesh) == "v2"
        assert compiled_whole_by(mesh) == 1
        same = [a is b for a, b in zip(before, mesh._configuration.resources, strict=True)]
        assert same == [True] * (len(before) - 1) + [False]


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


def test_without_inotify_and_watchfiles_a_look_twice_a_second_does(tmp_path, monkeypatch):
    monkeypatch.setattr("meshlib.sources.watcher.NATIVE", "native")
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
    before = set(threading.enumerate())
    for _ in range(3):
        with meshlib.Mesh.from_path(tmp_path):
            pass
    wait_for(lambda: set(threading.enumerate()) <= before)


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


# -- what a reload may take away ---------------------------------------------------------------------------------------


def watched(tmp_path, clock: FakeClock) -> meshlib.Mesh:
    """Two files, of which one has two routes more."""
    write(tmp_path / "base.json", *BASE)
    write(tmp_path / "routes.json", route_to("v1"), virtual_service("other", {"route": [to("reviews", "v2")]}))
    return meshlib.Mesh.from_path(tmp_path, clock=clock)


def resources(mesh: meshlib.Mesh) -> int:
    return mesh.status()["resources"]


def codes(mesh: meshlib.Mesh) -> list[str]:
    return [p["code"] for p in mesh.status()["problems"] if p["severity"] == "error"]


def truncate(path) -> None:
    path.write_text("")


def only_comments(path) -> None:
    path.write_text("# to be done\n---\n\n# more\n")


def become_an_empty_list(path) -> None:
    path.write_text('{"apiVersion": "v1", "kind": "List", "items": []}')


def become_a_dangling_link(path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("gone"))


@pytest.mark.parametrize("lose", [truncate, only_comments, become_an_empty_list, become_a_dangling_link])
def test_a_file_that_yields_nothing_any_more_keeps_its_resources_and_is_an_error(lose, tmp_path, caplog):
    clock = FakeClock()
    with watched(tmp_path, clock) as mesh, caplog.at_level(logging.INFO):
        had = resources(mesh)
        lose(tmp_path / "routes.json")
        wait_for(lambda: codes(mesh) == ["source-empty"])
        clock.advance(3600)
        write(tmp_path / "base.json", *BASE[:2], *BASE[2:])
        mesh.reload()
        assert (resources(mesh), codes(mesh), subset(mesh)) == (had, ["source-empty"], "v1")
        assert "VirtualService/default/reviews" in mesh.status()["source"]["last_good_kept"]
        assert [r.levelname for r in caplog.records if r.levelno >= logging.WARNING] == ["ERROR"]
        mesh.reload(accept_removals=True)
        assert (resources(mesh), codes(mesh)) == (had - 2, [])
        (told,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        assert "VirtualService/default/reviews" in told
        assert "VirtualService/default/other" in told


def test_a_file_that_says_it_is_empty_takes_its_resources_away(tmp_path, caplog):
    with watched(tmp_path, FakeClock()) as mesh:
        had = resources(mesh)
        (tmp_path / "routes.json").write_text("# meshlib: empty\n")
        wait_for(lambda: resources(mesh) == had - 2)
        assert codes(mesh) == []
        assert "VirtualService/default/reviews" in caplog.text


@pytest.mark.parametrize("lose", ["empties", "vanishes", "is a file"])
def test_a_folder_that_yields_nothing_any_more_keeps_everything(lose, tmp_path):
    folder = tmp_path / "mesh"
    folder.mkdir()
    clock = FakeClock()
    with watched(folder, clock) as mesh:
        had = resources(mesh)
        for file in folder.iterdir():
            file.unlink()
        if lose != "empties":
            folder.rmdir()
        if lose == "is a file":
            folder.write_text("")
        wait_for(lambda: "source-empty" in codes(mesh))
        clock.advance(60)
        mesh.reload()
        assert (resources(mesh), subset(mesh)) == (had, "v1")
        if lose == "vanishes":
            folder.mkdir()
            write(folder / "again.json", *BASE, route_to("v2"))
            wait_for(lambda: subset(mesh) == "v2")


def test_a_file_that_is_cut_between_documents_acts_when_it_has_been_quiet_and_names_what_went(tmp_path, caplog):
    clock = FakeClock()
    with watched(tmp_path, clock) as mesh:
        had = resources(mesh)
        (tmp_path / "routes.json").write_text(json.dumps(route_to("v1")) + "\n---\n")
        wait_for(lambda: any(p.code == "removal-waits" for p in mesh.problems))
        assert (resources(mesh), codes(mesh)) == (had, [])
        clock.advance(1.9)
        mesh.reload()
        assert resources(mesh) == had
        clock.advance(0.2)
        wait_for(lambda: resources(mesh) == had - 1)
        (told,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        assert "VirtualService/default/other" in told
        assert "routes.json" in told
        assert "default/reviews" not in told


def test_one_file_of_several_that_is_deleted_acts_when_its_folder_has_been_quiet(tmp_path, caplog):
    clock = FakeClock()
    with watched(tmp_path, clock) as mesh:
        had = resources(mesh)
        (tmp_path / "routes.json").unlink()
        wait_for(lambda: any(p.code == "removal-waits" for p in mesh.problems))
        assert resources(mesh) == had
        clock.advance(2.1)
        wait_for(lambda: resources(mesh) == had - 2)
        (told,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        assert "VirtualService/default/reviews" in told


def test_a_file_that_is_written_bit_by_bit_never_falls_back_to_pass_through(tmp_path):
    with watched(tmp_path, FakeClock()) as mesh:
        text = (tmp_path / "routes.json").read_bytes().replace(b'"subset": "v1"', b'"subset": "v2"')
        reloads = mesh.status()["source"]["reloads"]
        with open(tmp_path / "routes.json", "wb", buffering=0) as stream:  # the shell truncates first
            for start in range(0, len(text), 40):
                stream.write(text[start : start + 40])
                wait_for(lambda: mesh.status()["source"]["reloads"] > reloads)  # noqa: B023
                reloads = mesh.status()["source"]["reloads"]
                assert mesh.explain(url="http://reviews:9080/").resource == "VirtualService/default/reviews"
                assert (
                    mesh.explain(url="http://other.default.svc.cluster.local/").resource
                    == "VirtualService/default/other"
                )
        wait_for(lambda: subset(mesh) == "v2")


def test_a_watched_change_of_the_same_size_and_time_is_seen(tmp_path):
    file = tmp_path / "all.json"
    write(file, *BASE, route_to("v1"))
    with meshlib.Mesh.from_path(tmp_path) as mesh:
        before = file.stat()
        file.write_bytes(file.read_bytes().replace(b'"subset": "v1"', b'"subset": "v2"'))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        wait_for(lambda: subset(mesh) == "v2")


def test_a_reload_by_hand_reads_whatever_the_times_of_files_say(tmp_path, monkeypatch):
    file = tmp_path / "all.json"
    write(file, *BASE, route_to("v1"))
    with meshlib.Mesh.from_path(tmp_path, watch=False) as mesh:
        monkeypatch.setattr("meshlib.resources.reading.signature_of", lambda found: (0, 0, 0, 0))
        mesh.reload()
        text = file.read_bytes()
        file.write_bytes(text.replace(b'"subset": "v1"', b'"subset": "v2"'))
        mesh.reload()
        assert subset(mesh) == "v2"


def test_a_reload_by_hand_of_what_has_not_changed_keeps_every_object(tmp_path):
    write(tmp_path / "all.json", *BASE, route_to("v1"))
    with meshlib.Mesh.from_path(tmp_path, watch=False) as mesh:
        before = list(mesh._configuration.resources)
        mesh.reload()
        assert all(a is b for a, b in zip(before, mesh._configuration.resources, strict=True))


def test_a_config_maps_volume_acts_at_once(tmp_path):
    def project(n: int, version: str) -> None:
        (tmp_path / f"..{n}").mkdir()
        write(tmp_path / f"..{n}" / "all.json", *BASE, route_to(version))
        (tmp_path / "..tmp").symlink_to(f"..{n}")
        os.replace(tmp_path / "..tmp", tmp_path / "..data")

    project(1, "v1")
    (tmp_path / "all.json").symlink_to("..data/all.json")
    with meshlib.Mesh.from_path(tmp_path, clock=FakeClock()) as mesh:
        project(2, "v2")  # the clock stands still: nothing waits for it
        wait_for(lambda: subset(mesh) == "v2")


def test_a_resource_that_moves_to_another_file_is_served_throughout(tmp_path, caplog):
    with watched(tmp_path, FakeClock()) as mesh:
        had = resources(mesh)
        write(tmp_path / "moved.json", route_to("v2"))
        write(tmp_path / "routes.json", virtual_service("other", {"route": [to("reviews", "v2")]}))
        wait_for(lambda: subset(mesh) == "v2")
        assert resources(mesh) == had
        assert not [r for r in caplog.records if r.levelname == "WARNING"]


def test_a_worker_that_is_forked_later_has_what_changed_since_its_parent_read_the_files(tmp_path):
    file = tmp_path / "mesh.json"
    write(file, *BASE, route_to("v1"))
    with meshlib.Mesh.from_path(tmp_path, watch=False) as mesh:
        version = mesh.status()["version"]
        write(file, *BASE, route_to("v2"))
        assert subset(mesh) == "v1"
        mesh._configuration.follow()
        assert subset(mesh) == "v2", "before a request is served"
        write(file, *BASE, route_to("v1"))
        wait_for(lambda: subset(mesh) == "v1")
        assert mesh.status()["version"] == version
    with meshlib.Mesh.from_resources(BASE) as mesh:
        mesh._configuration.follow()  # it has no files


def test_what_such_a_worker_has_read_by_itself_is_no_change_to_its_watch(tmp_path, monkeypatch):
    file = tmp_path / "mesh.json"
    write(file, *BASE, route_to("v1"))
    with meshlib.Mesh.from_path(tmp_path, watch=False) as mesh:
        write(file, *BASE, route_to("v2"))
        source, watched = mesh._configuration.source, []
        monkeypatch.setattr(source, "watch", lambda changed, *, seen=None: watched.append((seen, subset(mesh))))
        mesh._configuration.follow()
        assert subset(mesh) == "v2"
        assert watched == [(source.signature(), "v1")], "what comes while it reads is one"


def test_a_reload_leaves_nothing_for_the_garbage_collector():
    """It looks at what is old rarely, and with thousands of resources a reload's cycles are megabytes until then."""
    policy = {"apiVersion": "meshlib.dev/v1", "kind": "ResiliencePolicy", "metadata": {"name": "reviews"},
              "spec": {"host": "reviews", "bulkhead": {"maxConcurrent": 9}}}  # fmt: skip
    with meshlib.Mesh.from_resources([*BASE, policy, route_to("v1")]) as mesh:
        for version in ("v2", "v1"):
            mesh.apply([*BASE, policy, route_to(version)])
        gc.collect()
        gc.freeze()  # what other tests have left is not this one's
        gc.disable()
        try:
            mesh.apply([*BASE, policy, route_to("v2")])
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            ours = [each for each in gc.garbage if type(each).__module__.startswith("meshlib.")]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
            gc.unfreeze()
    assert ours == []

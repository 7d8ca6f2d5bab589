"""``admin=``: a running process can be looked into, by its own user, and by nobody without it."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import socket
import subprocess
import sys
import threading
import weakref

import httpx
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.mesh.admin import admin_of
from meshlib.problems import ConfigError, MeshError
from tests.support.admin import ask, get, get_json
from tests.support.resources import pod, service


@pytest.fixture(autouse=True)
def runtime(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "meshlib-admin" and each.is_alive()]


def address(mesh: meshlib.Mesh) -> str:
    found: str = mesh.status()["admin"]["address"]
    return found


def test_off_by_default_and_nothing_of_it_is_imported():
    code = (
        "import meshlib, sys, threading; mesh = meshlib.Mesh.from_yaml(''); assert 'admin' not in mesh.status();"
        "assert not [name for name in sys.modules if name.startswith('meshlib.admin')]; assert threading.active_count() < 3"
    )
    environment = {name: value for name, value in os.environ.items() if name != "MESHLIB_ADMIN"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_each_way_to_make_a_mesh_takes_it(tmp_path, monkeypatch):
    (tmp_path / "a.yaml").write_text("")
    monkeypatch.setenv("MESHLIB_CONFIG", str(tmp_path / "a.yaml"))
    for make in (
        lambda: meshlib.Mesh(admin="unix"),
        lambda: meshlib.Mesh.from_yaml("", admin="unix"),
        lambda: meshlib.Mesh.from_path(tmp_path / "a.yaml", watch=False, admin="unix"),
        lambda: meshlib.Mesh.from_resources([], admin="unix"),
        lambda: meshlib.Mesh.from_env(admin="unix"),
    ):
        with make() as mesh:
            assert get(address(mesh), "/ready") == "LIVE\n"


def test_the_environment_says_it_for_from_env(tmp_path, monkeypatch):
    (tmp_path / "a.yaml").write_text("")
    monkeypatch.setenv("MESHLIB_CONFIG", str(tmp_path / "a.yaml"))
    monkeypatch.setenv("MESHLIB_ADMIN", f"unix:{tmp_path}/env.sock")
    with meshlib.Mesh.from_env() as mesh, meshlib.Mesh.from_env(admin="127.0.0.1:0") as other:
        assert address(mesh) == f"unix:{tmp_path}/env.sock"
        assert address(other).startswith("127.0.0.1:")
    with meshlib.Mesh.from_yaml("") as mesh:
        assert "admin" not in mesh.status()
    monkeypatch.setenv("MESHLIB_ADMIN", "0.0.0.0:80")
    with pytest.raises(ConfigError) as raised:
        meshlib.Mesh.from_env()
    assert raised.value.problems[0].file == "MESHLIB_ADMIN"


def test_what_cannot_be_listened_at_makes_no_mesh_and_leaves_nothing(tmp_path):
    (tmp_path / "a.sock").write_text("mine")
    before = set(threading.enumerate())
    with pytest.raises(MeshError, match="not a socket; move it away"):
        meshlib.Mesh.from_yaml("", admin=f"unix:{tmp_path}/a.sock")
    assert set(threading.enumerate()) <= before


def test_it_ends_with_the_mesh_and_with_the_last_reference_to_it():
    mesh = meshlib.Mesh.from_yaml("", admin="unix")
    where = address(mesh)
    mesh.close()
    assert threads() == []
    assert mesh.status()["admin"]["why"] == "the mesh is closed"
    mesh = meshlib.Mesh.from_yaml("", admin="unix")
    gone = weakref.ref(mesh)
    del mesh
    gc.collect()
    assert gone() is None
    assert threads() == []
    assert not os.path.exists(where.removeprefix("unix:"))


def test_it_answers_while_threads_and_loops_are_at_work():
    resources = [service("reviews"), pod("reviews", "v1", 9081)]
    with meshlib.Mesh.from_resources(resources, admin="127.0.0.1:0") as mesh:
        client = mesh.client(transport=httpx.MockTransport(lambda _request: httpx.Response(200)))
        client.get("http://reviews:9080/")

        async def in_a_loop() -> int:
            transport = httpx.MockTransport(lambda _request: httpx.Response(200))
            async with mesh.async_client(transport=transport) as calls:
                await calls.get("http://reviews:9080/")
                text = await asyncio.to_thread(get, address(mesh), "/clusters")
                return int(text.partition("reviews.default.svc.cluster.local::rq_total::")[2].partition("\n")[0])

        assert asyncio.run(in_a_loop()) == 2


def test_a_web_page_whose_name_leads_here_gets_nothing():
    with meshlib.Mesh.from_yaml("", admin="127.0.0.1:0") as mesh:
        status, said = ask(address(mesh), "/status", {"Host": "rebound.evil.example"})
        assert (status, "Host is not this machine's" in said) == (403, True)


def test_a_page_sees_the_configuration_of_now():
    with meshlib.Mesh.from_resources([], admin="unix") as mesh:
        before = get_json(address(mesh), "/server_info")["config_version"]
        mesh.apply([service("reviews")])
        assert get_json(address(mesh), "/server_info")["config_version"] != before
        assert "reviews.default.svc.cluster.local::observability_name" in get(address(mesh), "/clusters")


@pytest.mark.parametrize("given", ["unix", "127.0.0.1:0"])
def test_a_forked_worker_has_its_own_or_none_and_says_so(given):
    with meshlib.Mesh.from_yaml("", admin=given) as mesh:
        parent = address(mesh)
        child = os.fork()
        if child == 0:
            try:
                said = mesh.status()["admin"]
                while given == "unix" and not said["address"]:
                    threading.Event().wait(0.01)
                    said = mesh.status()["admin"]
                if given == "unix":
                    right = get_json(said["address"], "/server_info")["pid"] == os.getpid()
                else:
                    right = said["address"] == "" and "which this one was forked from" in said["why"]
                right = right and get_json(parent, "/server_info")["pid"] == os.getppid()
                mesh.close()
                os._exit(0 if right else 7)
            finally:
                os._exit(8)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert get_json(parent, "/server_info")["pid"] == os.getpid()


def test_none_is_none():
    with meshlib.Mesh.from_yaml("") as mesh:
        assert admin_of(mesh, None, 0.0) is None


class Raising:
    """A collector of the application's own, that raises when it is read."""

    def collect(self) -> list[object]:
        raise RuntimeError("c4n4ry")

    def describe(self) -> list[object]:
        return []


def test_a_registry_that_raises_fails_its_own_page_and_nothing_else(caplog):
    registry = CollectorRegistry()
    registry.register(Raising())  # type: ignore[arg-type]
    with meshlib.Mesh.from_resources([service("reviews")], registry=registry, admin="127.0.0.1:0") as mesh:
        status, said = ask(address(mesh), "/stats/prometheus")
        assert status == 500
        assert "c4n4ry" not in said
        assert get(address(mesh), "/clusters")
        assert get_json(address(mesh), "/hosts")["hosts"] == []
        assert mesh.status()["admin"]["failures"] == 1
    assert len([each for each in caplog.records if each.name == "meshlib.admin"]) == 1


def test_a_folder_that_is_removed_meanwhile_hinders_no_end(tmp_path):
    (tmp_path / "run").mkdir()
    with meshlib.Mesh.from_yaml("", admin=f"unix:{tmp_path}/run/a.sock") as mesh:
        assert get(address(mesh), "/ready") == "LIVE\n"
        shutil.rmtree(tmp_path / "run")
    assert threads() == []


def test_calls_are_made_while_a_reader_of_pages_has_stopped():
    resources = [service(f"s{n}") for n in range(400)] + [pod("s0", "v1", 9081)]
    with meshlib.Mesh.from_resources(resources, admin="127.0.0.1:0") as mesh:
        host, _, port = address(mesh).rpartition(":")
        with socket.create_connection((host, int(port)), timeout=30) as stuck:
            stuck.sendall(b"GET /config_dump HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert stuck.recv(16).startswith(b"HTTP/1.1 200")
            with mesh.client(transport=httpx.MockTransport(lambda _request: httpx.Response(200))) as client:
                assert client.get("http://s0:9080/").status_code == 200
            mesh.apply(resources[1:])
            assert get(address(mesh), "/ready") == "LIVE\n"

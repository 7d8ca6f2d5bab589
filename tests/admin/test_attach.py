"""Finding a running process, and what is said when it cannot be asked."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import meshlib
from meshlib.admin.address import TcpAddress, UnixAddress
from meshlib.admin.attach import Attached, Gone, attach, is_target, of_process, running
from meshlib.admin.listening import listen_unix
from meshlib.admin.runtime_folder import announce, own_folder, withdraw
from meshlib.problems import ConfigError, MeshError
from tests.support.admin import runtime_folder

ME = os.getpid()


@pytest.fixture(autouse=True)
def runtime(monkeypatch, tmp_path):
    runtime_folder(monkeypatch, tmp_path)
    return tmp_path


@pytest.fixture
def mesh():
    with meshlib.Mesh.from_yaml("", admin="unix") as made:
        yield made


def test_a_process_is_found_by_its_number_its_socket_and_as_the_only_one(mesh, runtime):
    socket = f"{runtime}/meshlib/{ME}.sock"
    for target in (str(ME), f"unix:{socket}", socket, None):
        found = attach(target)
        assert found.address == UnixAddress(socket)
        assert found.json("/server_info")["pid"] == ME
    assert str(attach(None)) == f"process {ME} (unix:{socket})"
    assert str(attach(socket)) == f"unix:{socket}"


@pytest.mark.parametrize("admin", ["unix:{tmp}/a.sock", "127.0.0.1:0"])
def test_one_that_listens_elsewhere_is_found_by_its_number_too(runtime, admin):
    with meshlib.Mesh.from_yaml("", admin=admin.replace("{tmp}", str(runtime))):
        assert attach(str(ME)).json("/server_info")["pid"] == ME
        assert [pid for pid, _ in running()] == [ME]


def test_the_first_of_several_meshes_of_a_process_and_a_choice_among_processes(mesh, runtime, monkeypatch):
    with meshlib.Mesh.from_yaml("", admin="unix"):
        assert attach(None).address == UnixAddress(f"{runtime}/meshlib/{ME}.sock")
    parent = announce(os.getppid(), "/run/other.sock", "sock")
    with pytest.raises(MeshError, match="several processes have an admin endpoint; give one: ") as raised:
        attach(None)
    assert str(ME) in str(raised.value)
    assert str(os.getppid()) in str(raised.value)
    withdraw(parent)


def test_where_there_is_none_it_is_said_how_to_have_one():
    with pytest.raises(MeshError, match=r"no process of this user has an admin endpoint .*MESHLIB_ADMIN=unix"):
        attach(None)
    with pytest.raises(
        MeshError, match=rf"process {ME} \(.+\) has no admin endpoint: start it with MESHLIB_ADMIN=unix"
    ):
        attach(str(ME))


def test_a_process_that_is_no_more_and_what_it_has_left(runtime):
    done = subprocess.Popen([sys.executable, "-S", "-c", ""])
    done.wait(60)
    with pytest.raises(Gone, match=f"there is no process {done.pid}"):
        attach(str(done.pid))
    left = listen_unix(f"{own_folder()}/{ME}.sock")
    left.socket.close()
    with pytest.raises(MeshError, match=f"process {ME} .* has no admin endpoint"):
        attach(str(ME))
    with pytest.raises(Gone, match="nothing listens at unix:.*: the process has ended"):
        attach(left.path).get("/")


def test_children_that_have_one_are_named_for_their_parent(mesh):
    with pytest.raises(
        MeshError, match=rf"process {os.getppid()}.* has no admin endpoint, but its children have \({ME}\)"
    ):
        of_process(os.getppid())


def test_what_another_process_answers_is_not_taken_for_ours(mesh, runtime, monkeypatch):
    """A child inherits MESHLIB_ADMIN of its parent, whose socket that is."""
    with meshlib.Mesh.from_yaml("", admin=f"unix:{runtime}/fixed.sock"):
        child = subprocess.Popen(
            [sys.executable, "-S", "-c", "print(flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "MESHLIB_ADMIN": f"unix:{runtime}/fixed.sock"},
        )
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(MeshError, match=f"process {child.pid} .* has no admin endpoint"):
            attach(str(child.pid))
        child.communicate(b"\n")


def test_the_environment_of_a_process_says_where_it_is(runtime, monkeypatch):
    """Without an entry in the runtime folder: a relative path is from its own folder."""
    if not os.path.exists("/proc/self/environ"):
        pytest.skip("there is no /proc here")
    code = (
        "import os, meshlib, meshlib.admin.runtime_folder as folder; folder.folders = lambda *_: []\n"
        "mesh = meshlib.Mesh.from_yaml('', admin=os.environ['MESHLIB_ADMIN']); print(flush=True); input()"
    )
    environment = {**os.environ, "MESHLIB_ADMIN": "unix:here-{pid}.sock", "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=runtime, env=environment
    )
    assert child.stdout is not None
    child.stdout.readline()
    found = attach(str(child.pid))
    assert found.address == UnixAddress(f"{runtime}/here-{child.pid}.sock")
    child.communicate(b"\n")


def test_what_responds_otherwise_is_not_ours(mesh):
    at = attach(str(ME))
    with pytest.raises(MeshError, match=r"responded to /nothing with 404: there is no page"):
        at.get("/nothing?x")
    with pytest.raises(MeshError, match="is not an admin endpoint of meshlib: its /ready is not JSON"):
        at.json("/ready")


def test_what_cannot_be_an_address_is_a_usage_error():
    for wrong in ("reviews", "10.0.0.1:80", "unix:@x"):
        with pytest.raises(ConfigError):
            attach(wrong)
    with pytest.raises(MeshError):
        attach("127.0.0.1:1").get("/")


def test_which_words_name_a_process():
    assert (
        all(map(is_target, ["4711", "unix", "unix:/a", "/run/a.sock", "./a.sock", "127.0.0.1:1", "localhost:1"]))
        is False
    )
    assert all(map(is_target, ["4711", "unix:/a", "/run/a.sock", "./a.sock", "127.0.0.1:1", "localhost:1", "[::1]:1"]))
    assert not any(
        map(is_target, ["reviews", "reviews:9080", "default/reviews", "VirtualService/default/reviews", "unix"])
    )


def test_a_listener_that_says_nothing_is_waited_for_no_longer_than_need_be(runtime, monkeypatch):
    silent = listen_unix(f"{runtime}/silent.sock")
    monkeypatch.setattr("meshlib.admin.attach.SECONDS", 0.05)
    with pytest.raises(MeshError, match=r"did not respond within 0.05 s; it may be stopped"):
        Attached(UnixAddress(silent.path)).get("/")
    silent.close()
    assert isinstance(Attached(TcpAddress("127.0.0.1", 1)).address, TcpAddress)

"""An admin endpoint over its life: one a mesh, its own in each process, and nothing left behind."""

from __future__ import annotations

import gc
import logging
import os
import socket
import stat
import subprocess
import sys
import threading

import pytest

from meshlib.admin.address import UnixAddress, parse_address
from meshlib.admin.endpoint import AdminEndpoint
from meshlib.admin.page import text
from meshlib.admin.runtime_folder import entries, own_folder
from meshlib.problems import MeshError
from tests.support.admin import get


@pytest.fixture(autouse=True)
def runtime(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def started(address: str) -> AdminEndpoint:
    made = AdminEndpoint(parse_address(address), lambda request: text(f"{os.getpid()} {request.path}\n"))
    made.start()
    return made


def settled(made: AdminEndpoint) -> str:
    """The address of a child's own, once it has one."""
    for _ in range(3000):
        found = made.status()["address"]
        if found:
            return found
        threading.Event().wait(0.01)
    raise AssertionError(made.status())


def in_child(check) -> int:
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if check() else 7)
        finally:
            os._exit(8)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("address", ["unix", "unix:{tmp}/a.sock", "127.0.0.1:0", "[::1]:0"])
def test_it_answers_until_it_is_closed_and_leaves_nothing(address, runtime):
    made = started(address.replace("{tmp}", str(runtime)))
    where = made.status()["address"]
    assert get(where, "/a") == f"{os.getpid()} /a\n"
    assert [pid for pid, _ in entries(own_folder())] == [os.getpid()]
    assert made.status()["requests"] == 1
    made.close()
    made.close()
    assert made.status() == {"address": "", "why": "the mesh is closed", "requests": 0, "failures": 0, "dropped": 0}
    assert list(entries(own_folder())) == []
    assert [each.name for each in runtime.iterdir()] == ["meshlib"]
    with pytest.raises(OSError):
        get(where, "/a")


def test_two_meshes_of_a_process_have_a_socket_each(runtime):
    first, second = started("unix"), started("unix")
    names = [made.status()["address"] for made in (first, second)]
    assert names == [f"unix:{runtime}/meshlib/{os.getpid()}.sock", f"unix:{runtime}/meshlib/{os.getpid()}-2.sock"]
    assert [get(each, "/") for each in names] == [f"{os.getpid()} /\n"] * 2
    first.close()
    third = started("unix")
    assert third.status()["address"] == names[0]
    for made in (second, third):
        made.close()


def test_one_that_is_given_a_socket_is_found_beside_one_that_is_not(runtime):
    first, second = started("unix"), started(f"unix:{runtime}/b.sock")
    found = [path for _, path in entries(own_folder())]
    assert [os.path.basename(path) for path in found] == [f"{os.getpid()}.sock", f"{os.getpid()}-2.sock"]
    assert os.readlink(found[1]) == f"{runtime}/b.sock"
    assert stat.S_IMODE(os.stat(found[0]).st_mode) == stat.S_IMODE(os.stat(found[1]).st_mode) == 0o600
    for made in (first, second):
        made.close()


def test_a_fixed_path_that_is_taken_is_an_error_and_the_first_goes_on(runtime):
    first = started(f"unix:{runtime}/b.sock")
    with pytest.raises(MeshError, match="another mesh of this process"):
        started(f"unix:{runtime}/b.sock")
    assert get(first.status()["address"], "/") == f"{os.getpid()} /\n"
    first.close()


def test_a_relative_path_stays_where_it_was_when_the_process_goes_elsewhere(runtime, monkeypatch):
    monkeypatch.chdir(runtime)
    made = AdminEndpoint(UnixAddress("a.sock"), lambda _request: text(""))
    assert made.address == UnixAddress(str(runtime / "a.sock"))


@pytest.mark.parametrize("address", ["unix:{tmp}/a.sock", "127.0.0.1:0"])
def test_a_child_does_not_answer_on_its_parents_socket(address, runtime):
    made = started(address.replace("{tmp}", str(runtime)))
    where, parent = made.status()["address"], os.getpid()

    def child() -> bool:
        made.after_fork()
        said = made.status()
        made.close()  # is the parent's: nothing of it goes
        return said["address"] == "" and f"process {parent}, which this one was forked from" in said["why"]

    assert in_child(child) == 0
    assert get(where, "/") == f"{parent} /\n"
    made.close()


@pytest.mark.parametrize("address", ["unix", "unix:{tmp}/a-{pid}.sock"])
def test_a_child_has_its_own_where_the_address_has_its_number(address, runtime):
    made = started(address.replace("{tmp}", str(runtime)))
    parent = made.status()["address"]

    def child() -> bool:
        made.after_fork()
        mine = settled(made)
        answers = get(mine, "/"), get(parent, "/")
        made.close()
        return mine != parent and answers == (f"{os.getpid()} /\n", f"{os.getppid()} /\n")

    assert in_child(child) == 0
    assert get(parent, "/") == f"{os.getpid()} /\n"
    made.close()


def test_a_child_that_cannot_have_its_own_goes_on_without(runtime, caplog):
    (runtime / "in").mkdir()
    made = started(f"unix:{runtime}/in/a-{{pid}}.sock")

    def child() -> bool:
        os.rename(runtime / "in", runtime / "out")
        with caplog.at_level(logging.WARNING, "meshlib.admin"):
            made.after_fork()
            while "has no admin endpoint" not in caplog.text:
                threading.Event().wait(0.01)
        return "there is no folder" in made.status()["why"] and "has no admin endpoint" in caplog.text

    assert in_child(child) == 0
    made.close()


def test_a_child_that_begins_another_program_leaves_no_socket(runtime, monkeypatch):
    made = started(f"unix:{runtime}/a-{{pid}}.sock")
    subprocess.run([sys.executable, "-S", "-c", ""], check=True, preexec_fn=made.after_fork)
    assert [each.name for each in runtime.iterdir() if each.name != "meshlib"] == [f"a-{os.getpid()}.sock"]
    made.close()


def test_a_child_that_closes_before_it_has_settled_does_not_listen(runtime):
    made = started("unix")

    def child() -> bool:
        made.after_fork()
        said = made.status()["why"]
        made.close()
        for each in threading.enumerate():
            if each.name == "meshlib-admin-starts":
                each.join(30)
        return "as soon as it has settled" in said and made.status()["address"] == ""

    assert in_child(child) == 0
    made.close()


def test_sockets_of_children_that_ended_without_notice_are_swept(runtime):
    dead = subprocess.Popen([sys.executable, "-S", "-c", ""])
    dead.wait(60)
    for name in (f"a-{dead.pid}.sock", f"b-{dead.pid}.sock"):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(runtime / name))
    (runtime / f"a-{dead.pid}0.sock").write_text("not a socket")
    started(f"unix:{runtime}/a-{{pid}}.sock").close()
    names = {each.name for each in runtime.iterdir()}
    assert f"a-{dead.pid}.sock" not in names
    assert {f"b-{dead.pid}.sock", f"a-{dead.pid}0.sock"} <= names


def test_one_that_is_dropped_is_closed(runtime):
    made = started("unix")
    path = made.status()["address"].removeprefix("unix:")
    del made
    gc.collect()
    assert not os.path.exists(path)


def test_the_end_of_a_process_removes_its_socket_and_a_kill_is_swept_by_the_next(runtime):
    code = (
        "import sys, os; from meshlib.admin.endpoint import AdminEndpoint; from meshlib.admin.address import parse_address\n"
        "made = AdminEndpoint(parse_address('unix'), print); made.start(); print(made.status()['address'], flush=True)\n"
        "if sys.argv[1] == 'kill': os.kill(os.getpid(), 9)"
    )
    for how in ("exit", "kill"):
        done = subprocess.run([sys.executable, "-c", code, how], stdout=subprocess.PIPE, text=True, check=False)
        assert os.path.exists(done.stdout.strip().removeprefix("unix:")) is (how == "kill")
    started("unix").close()
    assert list(entries(own_folder())) == []

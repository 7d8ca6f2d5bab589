"""Processes are found by their number, in a folder that only their user can enter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from meshlib.admin.listening import listen_unix
from meshlib.admin.runtime_folder import (
    announce,
    claim,
    entries,
    folders,
    is_alive,
    is_heard,
    name,
    own_folder,
    sweep,
    withdraw,
)
from meshlib.problems import MeshError


@pytest.fixture(autouse=True)
def runtime(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def gone() -> int:
    """The number of a process that is no more."""
    done = subprocess.Popen([sys.executable, "-S", "-c", ""])
    done.wait(60)
    return done.pid


def test_the_folder_is_made_for_this_user_alone(runtime):
    folder = own_folder()
    assert folder == str(runtime / "meshlib")
    assert os.stat(folder).st_mode & 0o777 == 0o700
    assert own_folder() == folder


def test_a_folder_that_others_could_have_made_or_can_enter_is_not_used(runtime):
    (runtime / "meshlib").mkdir(mode=0o700)
    (runtime / "meshlib").chmod(0o750)
    with pytest.raises(MeshError, match=r"is not a folder of this user .* alone.*remove it, or say where"):
        own_folder()
    (runtime / "meshlib").rmdir()
    (runtime / "elsewhere").mkdir(mode=0o700)
    (runtime / "meshlib").symlink_to(runtime / "elsewhere")
    with pytest.raises(MeshError, match="is not a folder of this user"):
        own_folder()


def test_where_it_is_looked_for():
    assert folders({}, 7) == ["/run/user/7/meshlib", "/tmp/meshlib-7"]
    assert folders({"XDG_RUNTIME_DIR": "/x"}, 7)[0] == "/x/meshlib"
    assert folders({"XDG_RUNTIME_DIR": "relative"}, 7)[0] == "/run/user/7/meshlib"


def test_what_listens_elsewhere_is_announced_and_withdrawn(runtime):
    first = announce(os.getpid(), "/run/a.sock", "sock")
    second = announce(os.getpid(), "127.0.0.1:1", "tcp")
    third = announce(os.getpid(), "/run/b.sock", "sock")
    assert (os.readlink(first), os.readlink(third)) == ("/run/a.sock", "/run/b.sock")
    with open(second) as file:
        assert file.read() == "127.0.0.1:1"
    found = list(entries(own_folder()))
    assert found == [(os.getpid(), path) for path in (first, second, third)]
    for entry in (first, second, third):
        withdraw(entry)
        withdraw(entry)
    assert list(entries(own_folder())) == []


def test_a_socket_in_use_is_not_replaced_by_an_announcement():
    mine = name(own_folder(), os.getpid(), 1, "sock")
    claim(mine)
    assert announce(os.getpid(), "/run/a.sock", "sock") == name(own_folder(), os.getpid(), 2, "sock")
    withdraw(mine)
    withdraw(name(own_folder(), os.getpid(), 2, "sock"))


def test_what_dead_processes_have_left_is_swept_and_nothing_else(runtime):
    folder, dead = own_folder(), gone()
    kept = [f"{os.getpid()}.sock", "notes.txt", f"{dead}.sock.bak"]
    for each in (*kept, f"{dead}.sock", f"{dead}-2.tcp"):
        (runtime / "meshlib" / each).touch()
    sweep(folder)
    assert sorted(os.listdir(folder)) == sorted(kept)


def test_a_socket_that_is_heard_stays_although_there_is_no_such_process_here(runtime):
    """It is another container's, which shares the folder."""
    folder, dead = own_folder(), gone()
    made = listen_unix(f"{folder}/{dead}.sock")
    sweep(folder)
    assert is_heard(made.path)
    made.socket.close()
    sweep(folder)
    assert os.listdir(folder) == []
    assert not is_heard(f"{folder}/1.tcp")


def test_no_folder_means_no_announcement_and_no_error(monkeypatch, runtime):
    (runtime / "meshlib").touch()
    assert announce(os.getpid(), "/run/a.sock", "sock") == ""
    assert list(entries(str(runtime / "nowhere"))) == []


def test_who_is_alive():
    assert is_alive(os.getpid())
    assert is_alive(1)
    assert not is_alive(gone())
    assert not is_alive(1 << 40)

"""Admin sockets are this user's alone, replace what the dead have left, and nothing else."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading

import pytest

from meshlib.admin import listening
from meshlib.admin.address import TcpAddress
from meshlib.admin.listening import Taken, listen_tcp, listen_unix
from meshlib.problems import MeshError


def left_behind(path: object) -> None:
    """As by a process that was killed."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


def test_the_socket_has_mode_0600_whatever_the_umask_is(tmp_path):
    before = os.umask(0)
    try:
        made = listen_unix(str(tmp_path / "a.sock"))
    finally:
        os.umask(before)
    with made.socket:
        assert stat.S_IMODE(os.stat(made.path).st_mode) == 0o600
        assert made.shown == f"unix:{tmp_path}/a.sock"
    made.close()
    assert not os.path.exists(made.path)


def test_nobody_can_connect_before_it_has_its_mode(tmp_path, monkeypatch):
    path, refused = str(tmp_path / "a.sock"), []

    def chmod(file: str, mode: int) -> None:
        with socket.socket(socket.AF_UNIX) as early, pytest.raises(ConnectionRefusedError):
            early.connect(path)
        refused.append(mode)

    monkeypatch.setattr(listening.os, "chmod", chmod)
    listen_unix(path).close()
    assert refused == [0o600]


def test_a_socket_of_a_dead_process_is_replaced(tmp_path):
    left_behind(tmp_path / "a.sock")
    made = listen_unix(str(tmp_path / "a.sock"))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(made.path)
    made.close()


def test_a_live_one_is_an_error_that_names_the_process(tmp_path):
    path = str(tmp_path / "a.sock")
    code = (
        f"import socket; s=socket.socket(socket.AF_UNIX); s.bind({path!r}); s.listen(); print('up',flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(Taken, match=rf"process {other.pid} listens there; write {{pid}} into the path") as raised:
            listen_unix(path)
        assert raised.value.pid == other.pid
        assert f"unix:{tmp_path}/a-{{pid}}.sock" in str(raised.value)
        other.kill()
    listen_unix(path).close()


def test_one_of_this_process_is_said_to_be_that(tmp_path):
    made = listen_unix(str(tmp_path / "a"))
    with pytest.raises(Taken, match="another mesh of this process") as raised:
        listen_unix(made.path)
    assert f"{tmp_path}/a-{{pid}}" in str(raised.value)
    made.close()


def test_of_many_that_start_at_once_over_a_dead_one_exactly_one_listens(tmp_path):
    left_behind(tmp_path / "a.sock")
    made, taken = [], []

    def start() -> None:
        try:
            made.append(listen_unix(str(tmp_path / "a.sock")))
        except Taken as error:
            taken.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert (len(made), len(taken)) == (1, 7)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(made[0].path)
    made[0].close()


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_what_is_not_a_socket_is_left_alone(tmp_path, kind):
    path = tmp_path / "a.sock"
    if kind == "file":
        path.write_text("mine")
    elif kind == "link":
        (tmp_path / "mine").write_text("mine")
        path.symlink_to(tmp_path / "mine")
    else:
        path.mkdir()
    with pytest.raises(MeshError, match="there is a file of that name which is not a socket; move it away"):
        listen_unix(str(path))
    assert path.exists()


def test_a_folder_that_is_not_there_or_not_ours_is_said(tmp_path, monkeypatch):
    with pytest.raises(MeshError, match=f"there is no folder {tmp_path}/no; make it"):
        listen_unix(str(tmp_path / "no" / "a.sock"))
    with pytest.raises(MeshError, match="longer than 107 bytes"):
        listen_unix("/" + "a" * 120)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no users here")
def test_permission_refused_names_the_user_and_the_folder(tmp_path):
    (tmp_path / "shut").mkdir()
    (tmp_path / "shut").chmod(0o500)
    path = str(tmp_path / "shut" / "a.sock")
    if os.geteuid() != 0:
        with pytest.raises(MeshError, match=r"this user .* may not write in .*shut; choose a folder of its own"):
            listen_unix(path)
        return
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder.owner() == "root" and folder != folder.parent and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    child = os.fork()
    if child == 0:
        said = ""
        try:
            os.setuid(65534)
            listen_unix(path)
        except MeshError as error:
            said = str(error)
        os._exit(0 if "this user (uid 65534) may not write in" in said else 7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_close_leaves_the_file_of_a_successor(tmp_path):
    first = listen_unix(str(tmp_path / "a.sock"))
    os.unlink(first.path)
    second = listen_unix(str(tmp_path / "a.sock"))
    first.close()
    assert os.path.exists(second.path)
    second.close()


def test_a_taken_port_is_an_error_with_the_remedy():
    made = listen_tcp(TcpAddress("127.0.0.1", 0))
    port = made.socket.getsockname()[1]
    assert made.shown == f"127.0.0.1:{port}"
    with pytest.raises(Taken, match=rf"port {port} already .*ss -ltnp 'sport = :{port}'.*choose another port"):
        listen_tcp(TcpAddress("127.0.0.1", port))
    made.close()


def test_an_address_that_this_machine_has_not_is_said(monkeypatch):
    def bind(self: object, address: object) -> None:
        raise OSError(99, "Cannot assign requested address")

    class Socket(socket.socket):
        pass

    monkeypatch.setattr(Socket, "bind", bind, raising=False)
    monkeypatch.setattr(listening.socket, "socket", Socket)
    with pytest.raises(
        MeshError, match=r"cannot listen on the admin address 127.0.0.9:1: Cannot assign .* choose another"
    ):
        listen_tcp(TcpAddress("127.0.0.9", 1))

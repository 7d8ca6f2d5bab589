"""What a forked child leaves behind of its parent's, when something is in the way."""

from __future__ import annotations

import os
import socket

import pytest

import meshlib
from meshlib.transport.grpcio.client.upstreams import upstreams_of_mesh
from meshlib.transport.upstream.forked import close_copy, take_all, this_process
from meshlib.transport.upstream.http2_threads_connection import Connection
from meshlib.transport.upstream.target import Target
from tests.support.h2_runtimes import Call, Threads
from tests.support.h2_server import H2Server


def test_a_socket_that_the_parent_had_closed_is_left_alone():
    one, other = socket.socketpair()
    one.close()
    close_copy(one)
    close_copy(other)
    assert other.fileno() == -1


def test_closing_a_copy_says_nothing_to_the_peer():
    one, other = socket.socketpair()
    parents = one.dup()
    close_copy(one)
    other.settimeout(0.0)
    with pytest.raises(BlockingIOError):
        other.recv(1)
    parents.close()
    other.close()


def test_a_child_knows_that_it_is_another_process():
    assert this_process.pid == os.getpid()
    child = os.fork()
    if not child:
        os._exit(0 if this_process.pid == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert this_process.pid == os.getpid()


def test_every_step_is_taken_whatever_one_raises():
    taken = []

    def fails() -> None:
        raise OSError("the first")

    def fails_too() -> None:
        raise ValueError("the second")

    with pytest.raises(OSError, match="the first"):
        take_all([lambda: taken.append(1), fails, lambda: taken.append(2), fails_too, lambda: taken.append(3)])
    assert taken == [1, 2, 3]


def test_an_http2_connection_that_a_thread_of_the_parent_was_closing_is_forgotten_whole():
    runtime = Threads()
    with H2Server() as server:
        runtime.call(Target("127.0.0.1", server.port, http2=True), Call())
        (connection,) = runtime.upstream._http2._open
        assert isinstance(connection, Connection)
        connection.socket.sock.close()
        connection.forget()
        assert (connection.socket._kick_in.fileno(), connection.socket._kick_out.fileno()) == (-1, -1)
        runtime.close()


def test_a_mesh_goes_on_to_its_grpc_channels_when_it_cannot_leave_a_connection_behind(monkeypatch):
    with meshlib.Mesh.from_resources([]) as mesh:
        core, left = mesh._core, []
        monkeypatch.setattr(upstreams_of_mesh(core), "after_fork", lambda: left.append("channels"))
        monkeypatch.setattr(core.names, "after_fork", lambda: left.append("names"))

        def fails() -> None:
            raise OSError("Bad file descriptor")

        monkeypatch.setattr(core.upstream, "after_fork", fails)
        with pytest.raises(OSError, match="Bad file descriptor"):
            mesh._after_fork()
        assert left == ["channels", "names"]

"""Channels after fork: a child gets new ones, and the parent keeps its own."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from meshlib.identity import grpc_process
from meshlib.transport.grpcio.client.connect import CannotConnect
from meshlib.transport.grpcio.client.upstream import Upstream
from meshlib.transport.grpcio.client.upstreams import Upstreams, upstreams_of_mesh
from tests.support.grpc_echo import EchoServer
from tests.support.grpc_runtimes import Threads, mesh_of

pytestmark = pytest.mark.slow


def test_a_process_whose_identity_came_over_grpc_has_used_it(monkeypatch):
    """Its child is told so, instead of waiting for ever, though the mesh itself has made no call."""
    monkeypatch.setattr(grpc_process, "_used_by", os.getpid() + 1)
    monkeypatch.setattr("meshlib.transport.grpcio.client.upstreams.gc.freeze", lambda: None)
    monkeypatch.setattr("meshlib.transport.grpcio.client.upstreams.made_channels", ())
    monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", "0")
    upstreams = Upstreams()
    upstreams.after_fork()
    with pytest.raises(CannotConnect, match="set GRPC_ENABLE_FORK_SUPPORT=1"):
        upstreams.check()


PROGRAM = """
import os, sys
sys.path.insert(0, ".")
import grpc
from tests.support.grpc_echo import Message, stubs
from tests.support.grpc_runtimes import TARGET, mesh_of
mesh = mesh_of(int(sys.argv[1]))
stub = stubs.EchoStub(mesh.grpc_channel(TARGET))
if "used" in sys.argv:
    assert stub.Unary(Message(text="parent"), timeout=60).text == "parent"
    assert [m.text for m in stub.Expand(Message(count=2), timeout=60)] == ["0", "1"]
child = os.fork()
if child == 0:
    code = 1
    try:
        for text in ("one", "two"):
            assert stub.Unary(Message(text=text), timeout=60).text == text
        assert [m.text for m in stub.Expand(Message(count=2), timeout=60)] == ["0", "1"]
        code = 0
    except grpc.RpcError as error:
        print(error.code().name, error.details(), flush=True)
        code = 7
    finally:
        os._exit(code)
if "used" in sys.argv:
    assert stub.Unary(Message(text="parent again"), timeout=60).text == "parent again"
_, status = os.waitpid(child, 0)
assert stub.Unary(Message(text="and again"), timeout=60).text == "and again"
os._exit(os.waitstatus_to_exitcode(status))
"""


def run(support, *arguments):
    """In a program of its own: the tests' process has servers of its own. Exit code, output and the peers seen."""
    with EchoServer() as server:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(server.port), *arguments],
            env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": support},
            timeout=45,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr[-2000:], {s.peer for s in server.seen}


@pytest.mark.parametrize("support", ["0", "1"])
def test_a_child_forked_before_the_first_call_makes_its_own_channels(support):
    code, output, peers = run(support)
    assert code == 0, output
    assert len(peers) == 2


def test_a_child_forked_after_calls_makes_its_own_channels_with_grpcios_fork_support():
    code, output, peers = run("1", "used")
    assert code == 0, output
    assert len(peers) >= 2


def test_a_child_forked_after_calls_is_told_what_to_do_without_it():
    code, output, _ = run("0", "used")
    assert code == 7, output
    assert "UNAVAILABLE" in output
    assert "GRPC_ENABLE_FORK_SUPPORT=1" in output


GARBAGE = """
import gc, os, sys
sys.path.insert(0, ".")
from tests.support.grpc_echo import Message, stubs
from tests.support.grpc_runtimes import TARGET, mesh_of
mesh = mesh_of(int(sys.argv[1]))
stub = stubs.EchoStub(mesh.grpc_channel(TARGET))
if "used" in sys.argv:
    stub.Unary(Message(text="parent"), timeout=60)
gc.disable()
freed = []
class Left:  # as calls of gRPC core are: their destruction takes a lock that may be held for ever in a child
    def __del__(self):
        freed.append(True)
left = Left()
left.itself = left
del left
if os.fork() == 0:
    gc.collect()
    os._exit(len(freed))
_, status = os.wait()
gc.collect()
assert freed  # the parent's collector goes on
os._exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize(("used", "freed"), [((), 1), (("used",), 0)])
def test_a_child_frees_nothing_that_its_parent_left_as_garbage_once_grpc_was_used(used, freed):
    with EchoServer() as server:
        done = subprocess.run(
            [sys.executable, "-c", GARBAGE, str(server.port), *used],
            env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},
            timeout=45,
            check=False,
        )
    assert done.returncode == freed


async def test_after_a_fork_nothing_of_the_parents_is_used_or_freed():
    with EchoServer() as server, mesh_of(server) as mesh:
        await Threads(mesh).unary()
        (cluster,) = mesh._core.live.bound.values()
        (before,) = [t for t in cluster.targets.values() if isinstance(t, Upstream)]
        mesh._core.after_fork()
        gc.unfreeze()  # we are the parent, after all
        assert not cluster.targets
        assert before in upstreams_of_mesh(mesh._core)._kept_by_parent
        upstreams_of_mesh(mesh._core)._forked = False
        await Threads(mesh).unary()
        (after,) = cluster.targets.values()
        assert after is not before
        before.channel.close()


KEPT_ELSEWHERE = """
import os, sys
sys.path.insert(0, ".")
import grpc
from tests.support.grpc_echo import Message, stubs
from tests.support.grpc_runtimes import TARGET, mesh_of
mesh = mesh_of(int(sys.argv[1]))
stub = stubs.EchoStub(mesh.grpc_channel(TARGET))
stub.Unary(Message(text="parent"), timeout=60)
kept = [(cluster.targets, dict(cluster.targets)) for cluster in mesh._core.live.bound.values()]
child = os.fork()
if child == 0:
    for targets, channels in kept:
        targets.update(channels)  # as a reload would that was under way at the fork
    try:
        stub.Unary(Message(text="child"), timeout=60)
    except grpc.RpcError as error:
        print(error.details(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
stub.Unary(Message(text="parent again"), timeout=60)
os._exit(0)
"""


def test_a_channel_of_the_parent_is_never_called_wherever_the_child_finds_it():
    with EchoServer() as server:
        done = subprocess.run(
            [sys.executable, "-c", KEPT_ELSEWHERE, str(server.port)],
            env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},
            timeout=120,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert "set GRPC_ENABLE_FORK_SUPPORT=1" in done.stdout

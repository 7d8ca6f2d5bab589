"""Under gevent all timeouts work and greenlets run side by side; eventlet and trio are told what works instead.

Programs run in processes that are patched from their first line on: one for those under gevent, one after the other, and one
for each of the rest. What they talk to is here, in plain threads.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from tests.support.evil_server import OK, EvilServer
from tests.support.h2_server import H2Server, Peer, Request

ROOT = Path(__file__).parents[2]
CROWD = 100

GEVENT = """
    from gevent import monkey
    monkey.patch_all()
    import gevent
"""
PROGRAM = """
    import json, os, sys
    import httpx, meshlib

    def mesh_to(port, protocol="http", **policy):
        def resource(kind, spec):
            return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}
        return meshlib.Mesh.from_resources([
            resource("ServiceEntry", {
                "hosts": ["x.test"], "resolution": "STATIC",
                "ports": [{"number": 80, "name": protocol, "protocol": protocol.upper()}],
                "endpoints": [{"address": "127.0.0.1", "ports": {protocol: port}}],
            }),
            *([resource("DestinationRule", {"host": "x.test", "trafficPolicy": policy})] if policy else []),
        ])

    def name_of(call):
        try:
            return str(call())
        except Exception as error:
            return type(error).__name__ + ": " + str(error)
"""


ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def run(begin: str, code: str, *arguments: object) -> Any:
    """What a program says, as JSON on its last line. It must end by itself, and soon."""
    program = textwrap.dedent(begin) + textwrap.dedent(PROGRAM) + textwrap.dedent(code)
    ended = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=ENVIRONMENT,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])


READS = """
    import traceback
    for line in sys.stdin:  # not by gevent's leave: nothing of a program goes on when it is over
        code, sys.argv[1:] = json.loads(line)
        try:
            exec(compile(code, "<program>", "exec"), dict(globals()))
        except BaseException:
            print(json.dumps({"raised": traceback.format_exc()}), flush=True)
        sys.stdout.flush()
"""


class Patched:
    """A process under gevent that runs one program after the other: to begin costs it a second of CPU."""

    def __init__(self) -> None:
        program = textwrap.dedent(GEVENT) + textwrap.dedent(PROGRAM) + textwrap.dedent(READS)
        self._process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )

    def run(self, code: str, *arguments: object) -> Any:
        """What a program says, as JSON on its one line."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        too_late = threading.Timer(60, self._process.kill)
        too_late.start()
        self._process.stdin.write(json.dumps([textwrap.dedent(code), list(map(str, arguments))]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        too_late.cancel()
        assert line, "the process has ended, or has said nothing for a minute"
        said = json.loads(line)
        assert not isinstance(said, dict), said["raised"]
        return said

    def end(self) -> None:
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0


@pytest.fixture(scope="module")
def patched() -> Iterator[Patched]:
    made = Patched()
    yield made
    made.end()


class Never:
    """Keeps its callers waiting until the test is over."""

    def __init__(self, begin: bytes = b"", tls: ssl.SSLContext | None = None, http2: bool = False) -> None:
        self.over = threading.Event()
        self.begin = begin
        self._server: Any = H2Server(self._answer, tls=tls) if http2 else EvilServer([self._hang], tls=tls)
        self.port = self._server.port

    def _hang(self, sock: socket.socket) -> None:
        sock.sendall(self.begin)
        self.over.wait(60)

    def _answer(self, peer: Peer, request: Request) -> None:
        if self.begin:
            peer.head(request, end=False)

    def __enter__(self) -> Never:
        self._server.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.over.set()
        self._server.__exit__(*exc)


class Meeting:
    """Answers nobody before ``CROWD`` calls are there at once."""

    def __init__(self, http2: bool = False) -> None:
        self.barrier = threading.Barrier(CROWD)
        self._server: Any = H2Server(self._answer) if http2 else EvilServer([self._wait, OK])
        self.port = self._server.port

    def _wait(self, sock: Any) -> None:
        self.barrier.wait(30)

    def _answer(self, peer: Peer, request: Request) -> None:
        def answer() -> None:
            self._wait(None)
            peer.respond(request, b"ok")

        threading.Thread(target=answer, daemon=True).start()

    def __enter__(self) -> Meeting:
        self._server.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.barrier.abort()
        self._server.__exit__(*exc)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def context_of(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("x.test").configure_cert(context)
    return context


@pytest.mark.parametrize("protocol", ["http", "http2", "tls"])
def test_read_timeouts_pass_under_gevent_before_the_head_and_in_the_body(protocol, authority, patched):
    tls = context_of(authority) if protocol == "tls" else None
    code = """
        protocol, *ports = sys.argv[1:]
        policy = {"tls": {"mode": "SIMPLE", "insecureSkipVerify": True}} if protocol == "tls" else {}
        found = []
        for port in ports:
            mesh = mesh_to(int(port), "http2" if protocol == "http2" else "http", **policy)
            with mesh.client(timeout=httpx.Timeout(30, read=0.2)) as client:
                found.append(name_of(lambda: client.get("http://x.test/")))
        print(json.dumps(found))
    """
    some = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nsome"
    with Never(b"", tls, protocol == "http2") as silent, Never(some, tls, protocol == "http2") as cut:
        for said in patched.run(code, protocol, silent.port, cut.port):
            assert said.startswith("UpstreamTimeout"), said


def test_the_routes_own_timeout_passes_under_gevent(patched):
    code = """
        with mesh_to(int(sys.argv[1])).client(timeout=None) as client:
            headers = {"x-envoy-upstream-rq-timeout-ms": "200"}
            print(json.dumps(name_of(lambda: client.get("http://x.test/", headers=headers))))
    """
    with Never() as server:
        assert "timeout" in patched.run(code, server.port).lower()


def test_connect_and_write_timeouts_pass_under_gevent(patched):
    code = """
        full, deaf = map(int, sys.argv[1:])
        with mesh_to(full, connectionPool={"tcp": {"connectTimeout": "200ms"}}).client(timeout=None) as client:
            first = name_of(lambda: client.get("http://x.test/"))
        with mesh_to(deaf).client(timeout=httpx.Timeout(None, write=0.2)) as client:
            second = name_of(lambda: client.post("http://x.test/", content=b"x" * 50_000_000))
            third = name_of(lambda: client.post("http://x.test/", content=iter([b"x" * 50_000_000])))
        print(json.dumps([first, second, third]))
    """
    with socket.socket() as full, Never() as deaf:
        deaf._server.read_body = False
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        connect, write, streamed = patched.run(code, full.getsockname()[1], deaf.port)
        for one in waiting:
            one.close()
    assert connect.startswith("ConnectTimedOut")
    assert "could not be written within 0.2 s" in write
    assert "could not be written within 0.2 s" in streamed


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_a_hundred_greenlets_call_at_once(http2, patched):
    code = """
        with mesh_to(int(sys.argv[1]), sys.argv[2]).client(timeout=40) as client:
            calls = [gevent.spawn(lambda: client.get("http://x.test/").text) for _ in range(int(sys.argv[3]))]
            print(json.dumps([call.get() for call in calls]))
    """
    with Meeting(http2) as server:
        assert patched.run(code, server.port, "http2" if http2 else "http", CROWD) == ["ok"] * CROWD


def test_other_greenlets_run_while_bodies_are_sent_and_awaited(patched):
    """An upload that is answered before its end, one that waits for 100-continue, a reused connection."""
    early = [b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", "close"]
    code = """
        ticks = [0]
        def tick():
            while True:
                ticks[0] += 1
                gevent.sleep(0.001)
        ticking = gevent.spawn(tick)
        found = []
        with mesh_to(int(sys.argv[1])).client(timeout=20) as client:
            for request in ({"content": iter([b"x" * 1000] * 5)}, {"content": b"x", "headers": {"expect": "100-continue"}}):
                found.append(client.post("http://x.test/", **request).status_code)
        with mesh_to(int(sys.argv[2])).client(timeout=20) as client:
            found.append(client.post("http://x.test/", content=iter([b"x" * 100_000] * 1000)).status_code)
        ticking.kill()
        print(json.dumps([found, ticks[0] > 5]))
    """
    with EvilServer([0.2, OK]) as slow, EvilServer([0.2, *early], read_body=False) as rash:
        assert patched.run(code, slow.port, rash.port) == [[200, 200, 413], True]


def test_closing_the_mesh_ends_calls_under_gevent(patched):
    code = """
        mesh = mesh_to(int(sys.argv[1]))
        client = mesh.client(timeout=None)
        call = gevent.spawn(lambda: name_of(lambda: client.get("http://x.test/")))
        gevent.sleep(0.2)
        mesh.close()
        print(json.dumps(call.get()))
    """
    with Never() as server:
        assert patched.run(code, server.port).startswith("ClosedMeanwhile")


def test_grpc_calls_run_side_by_side_under_gevent():
    class Echo(grpc.GenericRpcHandler):
        def __init__(self, wait: Callable[[], Any]) -> None:
            self.wait = wait

        def service(self, details: Any) -> Any:
            def answer(request: bytes, context: Any) -> bytes:
                if request != b"warm":
                    self.wait()
                return request

            return grpc.unary_unary_rpc_method_handler(answer)

    barrier = threading.Barrier(20)
    server = grpc.server(ThreadPoolExecutor(30), handlers=(Echo(lambda: barrier.wait(30)),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    code = """
        import grpc.experimental.gevent
        grpc.experimental.gevent.init_gevent()
        channel = mesh_to(int(sys.argv[1]), "grpc").grpc_channel("x.test:80")
        call = channel.unary_unary("/x.Echo/Get")
        warm = call(b"warm", timeout=20).decode()
        calls = [gevent.spawn(lambda n=n: call(str(n).encode(), timeout=30).decode()) for n in range(20)]
        print(json.dumps([warm, *[c.get() for c in calls]]), flush=True)
        os._exit(0)
    """
    try:
        assert run(GEVENT, code, port) == ["warm", *map(str, range(20))]
    finally:
        barrier.abort()
        server.stop(0).wait(60)


@pytest.fixture
def echo() -> Iterator[EvilServer]:
    with EvilServer([OK]) as server:
        yield server


def test_eventlet_is_told_what_works_instead(echo):
    code = """
        with mesh_to(int(sys.argv[1])).client() as client:
            try:
                client.get("http://x.test/")
            except meshlib.errors.MeshError as error:
                print(json.dumps(str(error)))
    """
    begin = """
        import sys, warnings
        warnings.simplefilter("ignore")
        sys.modules["trio"] = None  # where it is installed, httpx2 imports it, which fails on eventlet's sockets
        import eventlet
        eventlet.monkey_patch()
    """
    said = run(begin, code, echo.port)
    assert "eventlet" in said
    assert "threads, asyncio or gevent" in said


def test_trio_is_told_what_works_instead(echo):
    code = """
        import trio
        async def main():
            async with mesh_to(int(sys.argv[1])).async_client() as client:
                try:
                    await client.get("http://x.test/")
                except meshlib.errors.MeshError as error:
                    print(json.dumps(str(error)))
        trio.run(main)
    """
    said = run("", code, echo.port)
    assert "trio" in said
    assert "asyncio" in said
    assert "mesh.client()" in said

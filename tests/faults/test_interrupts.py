"""Ctrl-C at every point of a call: it is raised as what it is, and slots, counters and connections come back.

CPython looks for signals where a Python function begins (or a generator goes on) and where a call into C ends. A profiler
is told of just these points: the same call is made again and again, and interrupted at the first, the second, the third.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

import meshlib
from tests.support.eventually import eventually
from tests.support.evil_server import OK, EvilServer
from tests.support.grpc_echo import EchoServer, Message, stubs
from tests.support.grpc_runtimes import HOST, TARGET, mesh_of
from tests.support.h2_server import H2Server
from tests.support.resources import destination_rule, pod, service, to, virtual_service

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # sockets left to the collector

MESHLIB = os.path.dirname(meshlib.__file__)
SLOW_OK = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"
BUSY = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"


class Interrupter:
    """Raises KeyboardInterrupt at the ``number``-th point; ``where`` says which that was, "" when there were fewer."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.seen = 0
        self.where = ""

    def _profile(self, frame: Any, event: str, arg: Any) -> None:
        if event not in ("call", "c_return") or not frame.f_code.co_filename.startswith(MESHLIB):
            return
        around = frame
        while around is not None:
            if around.f_code.co_name == "__del__":
                return  # Python itself ignores what finalizers raise
            around = around.f_back
        self.seen += 1
        if self.seen == self.number:
            sys.setprofile(None)
            self.where = f"{event} {os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} {frame.f_code.co_name}"
            raise KeyboardInterrupt

    def __enter__(self) -> Interrupter:
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(None)


def books(mesh: meshlib.Mesh) -> dict[str, Any]:
    """Whatever counts calls under way."""
    found: dict[str, Any] = {}
    core = mesh._core
    for key, cluster in core.live.bound.items():
        state = cluster.state
        found[f"{key} active"] = state.active
        found[f"{key} retries"] = state.retries_active
        found[f"{key} endpoints"] = sum(endpoint.active for endpoint in state.endpoints.values())
        if state.slots is not None:
            found[f"{key} slots"] = (state.slots.in_use, state.slots.pending)
        if cluster.guard is not None:
            found[f"{key} guard"] = cluster.guard.active
            if cluster.guard.bulkhead is not None:
                found[f"{key} bulkhead"] = cluster.guard.bulkhead.in_use
    found["busy"] = len(core.upstream._busy)
    found["dialling"] = len(core.upstream._dialler.under_way)
    return found


def interrupt_everywhere(mesh: meshlib.Mesh, client: Any, call: Callable[[], Any], at_least: int) -> None:
    interrupted(mesh, lambda: client.get("http://reviews:9080/after", timeout=60).text == "ok", call, at_least)


def interrupted(mesh: meshlib.Mesh, is_well: Callable[[], bool], call: Callable[[], Any], at_least: int) -> None:
    call()
    idle = books(mesh)
    assert not any(value if not isinstance(value, tuple) else any(value) for value in idle.values())
    number = 0
    while True:
        number += 1
        raised = False
        with Interrupter(number) as interrupter:
            try:
                call()
            except KeyboardInterrupt:
                raised = True
        if not interrupter.where:
            break
        gc.collect(0)
        assert raised, f"lost at {interrupter.where}"
        assert books(mesh) == idle, f"interrupted at {interrupter.where}"
        assert is_well(), f"after {interrupter.where}"
    assert number > at_least


POOL = {"connectionPool": {"tcp": {"maxConnections": 2}, "http": {"maxRetries": 2}}}
RESILIENT = {
    "apiVersion": "meshlib.dev/v1",
    "kind": "ResiliencePolicy",
    "metadata": {"name": "reviews", "namespace": "default"},
    "spec": {
        "host": "reviews",
        "bulkhead": {"maxConcurrent": 2},
        "circuitBreaker": {"failureThreshold": 1000, "resetTimeout": "1s"},
        "retryBudget": {"percent": 100, "minPerSecond": 1000},
    },
}


def resources(port: int, *more: dict[str, Any]) -> list[dict[str, Any]]:
    retries = {"attempts": 1, "retryOn": "5xx", "backoff": "1ms"}
    rule = {"route": [to("reviews")], "retries": retries, "timeout": "10s"}
    return [
        service("reviews"),
        pod("reviews", "v1", port),
        destination_rule("reviews", **POOL),
        virtual_service("reviews", rule),
        *more,
    ]


@pytest.mark.parametrize("more", [(), (RESILIENT,)], ids=["plain", "ResiliencePolicy"])
def test_a_call_that_is_interrupted_anywhere_gives_everything_back(more):
    with EvilServer([OK]) as server, meshlib.Mesh.from_resources(resources(server.port, *more)) as mesh:
        with mesh.client() as client:
            interrupt_everywhere(mesh, client, lambda: client.get("http://reviews:9080/"), 60)


def test_so_does_one_whose_body_is_read_in_pieces():
    with EvilServer([SLOW_OK, 0.001, b"2\r\nok\r\n0\r\n\r\n"], [OK]) as server:
        server.plans = [[lambda conn: conn.sendall(OK)]]

        def whole_or_in_pieces(conn: Any) -> None:
            if b"GET /after" in server.requests[-1]:
                conn.sendall(OK)
            else:
                conn.sendall(SLOW_OK)
                conn.sendall(b"2\r\nok\r\n0\r\n\r\n")

        server.plans = [[whole_or_in_pieces]]
        with meshlib.Mesh.from_resources(resources(server.port)) as mesh, mesh.client() as client:

            def call() -> None:
                with client.stream("POST", "http://reviews:9080/", content=iter([b"one", b"two"])) as response:
                    assert b"".join(response.iter_raw()) == b"okok"

            interrupt_everywhere(mesh, client, call, 100)


@pytest.mark.parametrize("more", [(), (RESILIENT,)], ids=["plain", "ResiliencePolicy"])
def test_so_does_one_that_is_retried(more):
    with EvilServer([OK]) as server:
        tries = [0]

        def busy_at_first(conn: Any) -> None:
            if b"GET /after" in server.requests[-1]:
                conn.sendall(OK)
                return
            again = b"x-envoy-attempt-count: 2" in server.requests[-1].lower()
            tries[0] += again
            conn.sendall(OK if again else BUSY)

        server.plans = [[busy_at_first]]
        with meshlib.Mesh.from_resources(resources(server.port, *more)) as mesh, mesh.client() as client:
            interrupt_everywhere(mesh, client, lambda: client.get("http://reviews:9080/"), 100)
        assert tries[0]


def test_so_does_one_whose_connection_is_new_each_time():
    closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
    with EvilServer([closing]) as server, meshlib.Mesh.from_resources(resources(server.port)) as mesh:
        with mesh.client() as client:
            files = len(os.listdir("/proc/self/fd"))
            interrupt_everywhere(mesh, client, lambda: client.get("http://reviews:9080/"), 60)
            gc.collect()
            assert eventually(lambda: len(os.listdir("/proc/self/fd")) <= files + 2)  # the server closes its own, too


def test_so_does_one_over_http2():
    upgrade = destination_rule("reviews", connectionPool={"http": {"h2UpgradePolicy": "UPGRADE"}})
    with H2Server(lambda peer, request: peer.respond(request, b"ok")) as server:
        made = [one for one in resources(server.port) if one["kind"] != "DestinationRule"]
        with meshlib.Mesh.from_resources([*made, upgrade]) as mesh, mesh.client() as client:

            def call() -> None:
                content = iter([b"one", b"two"])
                with client.stream("POST", "http://reviews:9080/", content=content) as response:
                    assert b"".join(response.iter_raw()) == b"ok"

            interrupt_everywhere(mesh, client, call, 100)
            http2 = mesh._core.upstream._http2
            open_now = list(http2._open)
            assert [connection for connection in open_now if connection.session.streams] == []
            assert len(open_now) <= 1
            assert not any(pool.connecting for pool in http2._pools.values())


@pytest.mark.parametrize("rule", [{}, {"headers": {"response": {"set": {"a": "b"}}}}], ids=["plain", "changed"])
def test_so_does_one_of_grpc(rule):
    with EchoServer() as server, mesh_of(server, rules=[{"route": [to(HOST)], **rule}]) as mesh:
        unary = stubs.EchoStub(mesh.grpc_channel(TARGET)).Unary
        interrupted(
            mesh, lambda: unary(Message(text="after"), timeout=60).text == "after", lambda: unary(Message(text="x")), 35
        )

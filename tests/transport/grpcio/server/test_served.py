"""The server interceptors over real sockets, in every way of writing a handler: identity, deadline, faults, what is counted."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import replace
from typing import Any

import grpc
import pytest

from meshlib.compiler.inbound import InboundPorts
from meshlib.engine import deadlines, inbound_context
from meshlib.policy.refusal import Refusal
from tests.support.grpc_echo import Message, eventually, stubs
from tests.support.grpc_probe import probe
from tests.support.grpc_served import KINDS, Counted, call, messages_before
from tests.support.inbound import envoy_filter, fault_patch
from tests.support.resources import service


@pytest.mark.parametrize(
    ("kind", "answers", "messages"),
    [
        ("Unary", ["a"], (1, 1)),
        ("Expand", ["a0", "a1"], (1, 2)),
        ("Collect", ["aa"], (2, 1)),
        ("Chat", ["a", "a"], (2, 2)),
    ],
)
def test_every_kind_of_call_is_served_and_counted_with_its_messages(runtime, counted, kind, answers, messages):
    with probe(runtime, counted.mesh) as server, server.stub() as stub:
        assert call(stub, kind) == answers
        assert counted.settled({("200", "0", "-"): 1})
        assert counted.messages() == messages
    assert all(seen.request is not None for seen in server.notes.seen)
    ((_, durations),) = counted.samples("istio_request_duration_milliseconds_count")
    assert durations == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("order", "code"), [("abort NOT_FOUND", 5), ("raise", 2), ("code ABORTED", 10), ("abort UNAVAILABLE", 14)]
)
def test_what_a_handler_fails_with_reaches_the_caller_and_the_metrics(runtime, counted, kind, order, code):
    with probe(runtime, counted.mesh) as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError) as caught:
            call(stub, kind, order, messages_before(runtime, kind))
        assert caught.value.code().value[0] == code
        if order.startswith("abort"):
            assert caught.value.details() == "as asked"
        assert counted.settled({("200", str(code), "-"): 1})


@pytest.mark.parametrize("kind", ["Unary", "Expand"])
def test_an_abort_that_a_handler_swallows_is_still_the_answer(runtime, counted, kind):
    if runtime == "threads":
        pytest.skip("grpcio itself answers with the response then, and the code that was set")
    with probe(runtime, counted.mesh) as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError) as caught:
            call(stub, kind, "swallow ABORTED", messages_before(runtime, kind))
        assert caught.value.code() is grpc.StatusCode.ABORTED
        assert counted.settled({("200", "10", "-"): 1})


def test_a_method_that_is_not_there_is_unimplemented_and_counted(runtime, counted):
    with probe(runtime, counted.mesh) as server, grpc.insecure_channel(server.address) as channel:
        for name in ("/meshlib.test.Echo/Nothing", "/nobody/knows"):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(name)(b"x", timeout=60)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
            assert caught.value.details() == "Method not found!"
        assert counted.settled({("200", "12", "-"): 2})


def test_a_generic_handler_is_served_like_any_other(runtime, counted):
    class Generic(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            if details.method != "/any/thing":
                return None
            # a new handler at every call, as those of proxies are
            return grpc.unary_unary_rpc_method_handler(serve_async if runtime in ("asyncio", "writer") else serve)

    principals: list[Any] = []

    def serve(request: bytes, _context: Any) -> bytes:
        principals.append(counted.mesh.inbound().path)
        return request[::-1]

    async def serve_async(request: bytes, _context: Any) -> bytes:
        return serve(request, _context)

    with probe(runtime, counted.mesh, handlers=[Generic()]) as server, grpc.insecure_channel(server.address) as channel:
        for text in (b"abc", b"def"):
            assert channel.unary_unary("/any/thing")(text, timeout=60) == text[::-1]
        assert counted.settled({("200", "0", "-"): 2})
    assert principals == ["/any/thing"] * 2


def test_outside_of_handlers_nobody_is_served(counted):
    assert counted.mesh.inbound() is None


def test_nothing_of_a_call_stays_in_the_thread_that_served_it(counted):
    """One thread serves everything, calls that fail and are cancelled too; between calls it knows of none."""
    pool = futures.ThreadPoolExecutor(1)
    server = grpc.server(pool, interceptors=counted.mesh.grpc_server_interceptors())

    class Servicer(stubs.EchoServicer):  # type: ignore[misc,name-defined]
        def Unary(self, request: Any, context: Any) -> Any:
            if request.text == "raise":
                raise ValueError("as asked")
            return request

        def Expand(self, request: Any, _context: Any) -> Iterator[Any]:
            while True:
                yield request

    stubs.add_EchoServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = stubs.EchoStub(channel)
            for text in ("a", "raise", "b"):
                with contextlib.suppress(grpc.RpcError):
                    stub.Unary(Message(text=text), timeout=60)
                left = pool.submit(lambda: (inbound_context.current.get(), deadlines.current.get()))
                assert left.result(30) == (None, None)
            stream = stub.Expand(Message(text="a"), timeout=60)
            next(stream)
            stream.cancel()
            left = pool.submit(lambda: (inbound_context.current.get(), deadlines.current.get()))
            assert left.result(30) == (None, None)
    finally:
        server.stop(None).wait(60)


# -- deadlines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_callers_deadline_is_that_of_the_handlers_own_calls(runtime, counted, kind):
    with probe(runtime, counted.mesh) as server, server.stub() as stub:
        call(stub, kind, timeout=20)
        now = counted.mesh._core.clock.monotonic()
        assert server.notes.seen
        for seen in server.notes.seen:
            assert seen.deadline is not None, seen.where
            assert 10 < seen.deadline - now < 20.1
        server.notes.seen.clear()
        call(stub, kind)
        assert {seen.deadline for seen in server.notes.seen} == {None}


def test_a_deadline_is_kept_to_oneself_when_that_is_wanted(runtime, counted):
    with probe(runtime, counted.mesh, propagate_deadline=False) as server, server.stub() as stub:
        stub.Unary(Message(text="a"), timeout=20)
    assert [seen.deadline for seen in server.notes.seen] == [None]


@pytest.mark.parametrize("kind", KINDS)
def test_an_injected_delay_past_the_deadline_ends_the_call_without_the_application(runtime, kind):
    patch = fault_patch(delay={"fixed_delay": "60s", "percentage": {"numerator": 100}})
    counted = Counted(envoy_filter("f", patch))
    with counted.mesh, probe(runtime, counted.mesh) as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError) as caught:
            call(stub, kind, timeout=0.8)  # long enough to reach the server on a machine that has other work
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert eventually(lambda: set(counted.results) == {("200", "4", "DI")} and counted.results)
        assert sum(counted.results.values()) == 1
    assert server.notes.seen == []


# -- refusals and faults ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_abort_of_an_envoy_filter_answers_in_place_of_the_application(runtime, kind):
    patch = fault_patch(abort={"grpc_status": 8, "percentage": {"numerator": 100}})
    counted = Counted(envoy_filter("f", patch))
    with counted.mesh, probe(runtime, counted.mesh) as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError) as caught:
            call(stub, kind, timeout=60)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.details() == "fault filter abort"
        assert counted.settled({("200", "8", "FI"): 1})
    assert server.notes.seen == []


def test_an_http_status_is_mapped_and_a_reload_counts_at_once(runtime):
    counted = Counted(envoy_filter("f", fault_patch(abort={"http_status": 403, "percentage": {"numerator": 100}})))
    with counted.mesh, probe(runtime, counted.mesh) as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError) as caught:
            stub.Unary(Message(text="a"), timeout=60)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        counted.mesh.apply([])
        assert stub.Unary(Message(text="a"), timeout=60).text == "a"


def test_a_delay_is_injected_before_the_application(runtime):
    patch = fault_patch(delay={"fixed_delay": "0.2s", "percentage": {"numerator": 100}})
    counted = Counted(envoy_filter("f", patch))
    with counted.mesh, probe(runtime, counted.mesh) as server, server.stub() as stub:
        assert call(stub, "Chat", timeout=60) == ["a", "a"]
        assert counted.settled({("200", "0", "DI"): 1})
        ((_, milliseconds),) = counted.samples("istio_request_duration_milliseconds_sum")
        assert milliseconds >= 200


def test_a_header_asks_for_a_fault_where_the_filter_lets_it(runtime):
    patch = fault_patch(abort={"header_abort": {}, "percentage": {"numerator": 100}})
    counted = Counted(envoy_filter("f", patch))
    with counted.mesh, probe(runtime, counted.mesh) as server, server.stub() as stub:
        assert stub.Unary(Message(text="a"), timeout=60).text == "a"
        with pytest.raises(grpc.RpcError) as caught:
            stub.Unary(Message(text="a"), timeout=60, metadata=(("x-envoy-fault-abort-grpc-request", "10"),))
        assert caught.value.code() is grpc.StatusCode.ABORTED


@pytest.mark.parametrize("kind", [*KINDS, "unknown method"])
def test_a_check_that_is_plugged_in_guards_every_kind_of_call(runtime, counted, kind):
    def check(request: Any) -> Refusal | None:
        return None if request.principal else Refusal(403, "RBAC: access denied")

    core = counted.mesh._core
    snapshot = core.live.snapshot
    core.install(replace(snapshot, inbound=InboundPorts(replace(snapshot.inbound.default, checks=(check,)))))
    with probe(runtime, counted.mesh) as server, grpc.insecure_channel(server.address) as channel:
        one = channel.unary_unary("/no/where") if kind == "unknown method" else None
        with pytest.raises(grpc.RpcError) as caught:
            _ = one(b"", timeout=60) if one is not None else call(stubs.EchoStub(channel), kind, timeout=60)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert caught.value.details() == "RBAC: access denied"
        assert counted.settled({("200", "7", "-"): 1})
    assert server.notes.seen == []


def test_a_closed_mesh_serves_nothing(runtime, counted):
    with probe(runtime, counted.mesh) as server, server.stub() as stub:
        counted.mesh.close()
        with pytest.raises(grpc.RpcError) as caught:
            stub.Unary(Message(text="a"), timeout=60)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert server.notes.seen == []


# -- labels -----------------------------------------------------------------------------------------------------------


def test_labels_are_istios_of_the_destination_side(runtime):
    counted = Counted(service("ratings"))
    with counted.mesh, probe(runtime, counted.mesh) as server, server.stub() as stub:
        stub.Unary(Message(text="a"), timeout=60)
        assert counted.settled({("200", "0", "-"): 1})
        ((labels, _),) = counted.samples("istio_requests_total")
    assert labels == {
        "reporter": "destination",
        **{f"source_{n}": "unknown" for n in ("workload", "canonical_service", "principal", "app")},
        **{f"source_{n}": "unknown" for n in ("workload_namespace", "version", "cluster")},
        "source_canonical_revision": "latest",
        "destination_workload": "ratings-v1",
        "destination_workload_namespace": "default",
        "destination_principal": "unknown",
        "destination_app": "ratings",
        "destination_version": "v1",
        "destination_service": "ratings.default.svc.cluster.local",
        "destination_canonical_service": "ratings",
        "destination_canonical_revision": "v1",
        "destination_service_name": "ratings",
        "destination_service_namespace": "default",
        "destination_cluster": "Kubernetes",
        "request_protocol": "grpc",
        "response_code": "200",
        "grpc_response_status": "0",
        "response_flags": "-",
        "connection_security_policy": "none",
    }
    ((messages, _),) = counted.samples("istio_request_messages_total")
    answer = (
        "request_protocol",
        "response_code",
        "grpc_response_status",
        "response_flags",
        "connection_security_policy",
    )
    assert messages == {k: v for k, v in labels.items() if k not in answer}


def test_a_handlers_own_thread_pool_is_used(counted):
    own = futures.ThreadPoolExecutor(1, thread_name_prefix="its-own")
    names: list[str] = []

    def behaviour(request: bytes, _context: Any) -> bytes:
        names.append(threading.current_thread().name)
        return request

    behaviour.experimental_thread_pool = own  # type: ignore[attr-defined]

    class Generic(grpc.GenericRpcHandler):
        def service(self, _details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(behaviour)

    with probe("threads", counted.mesh, handlers=[Generic()]) as server:
        with grpc.insecure_channel(server.address) as channel:
            channel.unary_unary("/any/thing")(b"x", timeout=60)
    own.shutdown()
    assert names[0].startswith("its-own")

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
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.compiler.inbound import InboundPorts
from meshlib.engine import deadlines, inbound_context
from meshlib.policy.refusal import Refusal
from meshlib.transport.grpcio.server import loop as server_aio
from meshlib.transport.grpcio.server.served import Served
from tests.support.grpc_echo import Message, eventually, stubs
from tests.support.grpc_probe import RUNTIMES, probe
from tests.support.inbound import envoy_filter, fault_patch
from tests.support.resources import service
from tests.support.spiffe import Authority

BOOKINFO = "spiffe://cluster.local/ns/default/sa/bookinfo-productpage"
RATINGS = meshlib.Workload("ratings-v1", labels={"app": "ratings", "version": "v1"}, service_account="ratings")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(params=RUNTIMES)
def runtime(request) -> str:
    return request.param


class Counted:
    """A mesh with a registry of its own, and what it has counted."""

    def __init__(self, *resources: dict[str, Any], **more: Any) -> None:
        self.registry = CollectorRegistry()
        self.mesh = meshlib.Mesh.from_resources(resources, registry=self.registry, workload=RATINGS, **more)

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        return [(s.labels, s.value) for f in self.registry.collect() for s in f.samples if s.name == name and s.value]

    @property
    def results(self) -> dict[tuple[str, str, str], float]:
        """Calls by (response_code, grpc_response_status, response_flags)."""
        found: dict[tuple[str, str, str], float] = {}
        for labels, value in self.samples("istio_requests_total"):
            key = (labels["response_code"], labels["grpc_response_status"], labels["response_flags"])
            found[key] = found.get(key, 0) + value
        return found

    def messages(self) -> tuple[float, float]:
        """(requests, responses)."""
        names = ("istio_request_messages_total", "istio_response_messages_total")
        return tuple(sum(value for _, value in self.samples(name)) for name in names)  # type: ignore[return-value]

    def settled(self, wanted: dict[tuple[str, str, str], float]) -> bool:
        """Whether what is counted becomes this (handlers end after their callers have their answers)."""
        return eventually(lambda: self.results == wanted)


@pytest.fixture
def counted() -> Iterator[Counted]:
    made = Counted()
    with made.mesh:
        yield made


def call(stub: Any, kind: str, text: str = "a", count: int = 2, **options: Any) -> list[str]:
    """One call of a kind; the texts that came back."""
    requests = [Message(text=text)] * count
    if kind == "Unary":
        return [stub.Unary(Message(text=text), **options).text]
    if kind == "Expand":
        return [m.text for m in stub.Expand(Message(text=text, count=count), **options)]
    if kind == "Collect":
        return [stub.Collect(iter(requests), **options).text]
    return [m.text for m in stub.Chat(iter(requests), **options)]


KINDS = ("Unary", "Expand", "Collect", "Chat")


def messages_before(runtime: str, kind: str) -> int:
    """How many messages an order to fail may come after: grpcio loses the status of a plain generator on an asyncio server
    that aborts while its last message is being written (seen without the mesh in 9 of 15 calls; the caller waits for ever)."""
    return 0 if runtime == "plain" and kind == "Expand" else 1


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
                channel.unary_unary(name)(b"x", timeout=5)
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
            assert channel.unary_unary("/any/thing")(text, timeout=5) == text[::-1]
        assert counted.settled({("200", "0", "-"): 2})
    assert principals == ["/any/thing"] * 2


# -- identity ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_knows_its_caller_by_the_certificate(runtime, counted, authority, kind):
    with probe(runtime, counted.mesh, credentials=authority.server()) as server:
        with server.stub(authority.client(BOOKINFO, "dns:productpage.test")) as stub:
            call(stub, kind)
    assert server.notes.seen
    for seen in server.notes.seen:
        request = seen.request
        assert request is not None, seen.where
        assert (request.principal, request.secure, request.mutual, request.scheme) == (BOOKINFO, True, True, "https")
        assert (request.method, request.path, request.protocol) == ("POST", f"/meshlib.test.Echo/{kind}", "grpc")
        host, _, port = request.peer.rpartition(":")
        assert host == "127.0.0.1"
        assert port.isdigit()
    ((labels, _),) = counted.samples("istio_requests_total")
    assert labels["source_principal"] == BOOKINFO
    assert labels["destination_principal"] == "spiffe://cluster.local/ns/default/sa/ratings"
    assert labels["connection_security_policy"] == "mutual_tls"


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("dns:productpage.test",),
        ("https://productpage.test/",),
        (BOOKINFO, "spiffe://cluster.local/ns/default/sa/admin"),
        (BOOKINFO, "https://productpage.test/"),
        ("dns:spiffe://cluster.local/ns/default/sa/admin",),
        # what gRPC core takes for SPIFFE ids
        (f"{BOOKINFO}?x",),
        (f"{BOOKINFO}#x",),
        (f"{BOOKINFO}/",),
        ("spiffe://cluster.local:8080/ns/default/sa/admin",),
        ("spiffe://eve@cluster.local/ns/default/sa/admin",),
        ("spiffe://CLUSTER.local/ns/default/sa/admin",),
        ("spiffe://cluster.local/ns/../sa/admin",),
        ("spiffe://cluster.local/ns/default/sa/%61dmin",),
    ],
)
@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_a_certificate_without_exactly_one_spiffe_id_gives_no_principal(runtime, counted, authority, names):
    with probe(runtime, counted.mesh, credentials=authority.server()) as server:
        with server.stub(authority.client(*names)) as stub:
            assert stub.Unary(Message(text="a")).server == ""
    (seen,) = server.notes.seen
    assert seen.request is not None
    assert (seen.request.principal, seen.request.mutual) == ("", True)
    ((labels, _),) = counted.samples("istio_requests_total")
    assert (labels["source_principal"], labels["connection_security_policy"]) == ("unknown", "mutual_tls")


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_a_certificate_that_may_sign_others_is_nobodys(runtime, counted, authority):
    with probe(runtime, counted.mesh, credentials=authority.server()) as server:
        with server.stub(authority.client(BOOKINFO, ca=True)) as stub:
            assert stub.Unary(Message(text="a")).server == ""


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
def test_the_identity_is_more_than_a_text(runtime, counted, authority):
    with probe(runtime, counted.mesh, credentials=authority.server()) as server:
        with server.stub(authority.client(BOOKINFO)) as stub:
            stub.Unary(Message(text="a"))
    (seen,) = server.notes.seen
    peer = seen.request.peer_id
    assert (peer.trust_domain, peer.namespace, peer.service_account) == (
        "cluster.local",
        "default",
        "bookinfo-productpage",
    )


def test_what_grpcio_does_not_tell_is_unknown_and_the_port_may_be_said(runtime, counted):
    with probe(runtime, counted.mesh) as server, server.stub() as stub:
        stub.Unary(Message(text="a"))
    request = server.notes.seen[0].request
    assert (request.host_known, request.authority, request.port, request.local_ip, request.sni) == (
        False,
        "",
        0,
        "",
        "",
    )
    with probe(runtime, counted.mesh, port=9090) as server, server.stub() as stub:
        stub.Unary(Message(text="a"))
    assert server.notes.seen[0].request.port == 9090


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(counted, port):
    for make in (counted.mesh.grpc_server_interceptors, counted.mesh.aio_grpc_server_interceptors):
        with pytest.raises(ValueError, match="1 to 65535"):
            make(port=port)


def test_tls_without_a_client_certificate_is_secure_and_nobody(runtime, counted, authority):
    with probe(runtime, counted.mesh, credentials=authority.server(mutual=False)) as server:
        with server.stub(authority.client(anonymous=True)) as stub:
            stub.Unary(Message(text="a"))
    (seen,) = server.notes.seen
    assert seen.request is not None
    assert (seen.request.principal, seen.request.secure, seen.request.mutual) == ("", True, False)
    ((labels, _),) = counted.samples("istio_requests_total")
    assert (labels["connection_security_policy"], labels["destination_principal"]) == ("none", "unknown")


def test_metadata_cannot_make_a_principal(runtime, counted):
    claims = (("peer_spiffe_id", BOOKINFO), ("x-forwarded-client-cert", f"URI={BOOKINFO}"), ("k-bin", b"\x00\xff"))
    with probe(runtime, counted.mesh) as server, server.stub() as stub:
        stub.Unary(Message(text="a"), metadata=claims)
    (seen,) = server.notes.seen
    assert seen.request is not None
    assert (seen.request.principal, seen.request.secure, seen.request.scheme) == ("", False, "http")
    assert seen.request.header("x-forwarded-client-cert") == f"URI={BOOKINFO}"
    assert seen.request.header("k-bin") == "\x00\xff"
    ((labels, _),) = counted.samples("istio_requests_total")
    assert (labels["source_principal"], labels["connection_security_policy"]) == ("unknown", "none")


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
                    stub.Unary(Message(text=text), timeout=5)
                left = pool.submit(lambda: (inbound_context.current.get(), deadlines.current.get()))
                assert left.result(30) == (None, None)
            stream = stub.Expand(Message(text="a"), timeout=5)
            next(stream)
            stream.cancel()
            left = pool.submit(lambda: (inbound_context.current.get(), deadlines.current.get()))
            assert left.result(30) == (None, None)
    finally:
        server.stop(None).wait(5)


def test_calls_at_the_same_time_see_each_their_own(runtime, counted, authority):
    ids = [f"spiffe://cluster.local/ns/default/sa/caller-{i}" for i in range(4)]
    wrong: list[Any] = []

    def calls(mine: str) -> None:
        with server.stub(authority.client(mine)) as stub:
            for _ in range(10):
                answers = [stub.Unary(Message(text="a"))]
                answers += stub.Expand(Message(text="a", count=3))
                answers += stub.Chat(iter([Message(text="a")] * 3))
                answers.append(stub.Collect(iter([Message(text="a")] * 3)))
                wrong.extend(a.server for a in answers if a.server != mine)

    with probe(runtime, counted.mesh, credentials=authority.server(), workers=16) as server:
        threads = [threading.Thread(target=calls, args=(mine,)) for mine in ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert wrong == []
        assert counted.settled({("200", "0", "-"): 160})
    assert {
        labels["source_principal"]: value for labels, value in counted.samples("istio_requests_total")
    } == dict.fromkeys(ids, 40)
    assert counted.messages() == (4 * 10 * (1 + 1 + 3 + 3), 4 * 10 * (1 + 3 + 3 + 1))


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
            call(stub, kind, timeout=5)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.details() == "fault filter abort"
        assert counted.settled({("200", "8", "FI"): 1})
    assert server.notes.seen == []


def test_an_http_status_is_mapped_and_a_reload_counts_at_once(runtime):
    counted = Counted(envoy_filter("f", fault_patch(abort={"http_status": 403, "percentage": {"numerator": 100}})))
    with counted.mesh, probe(runtime, counted.mesh) as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError) as caught:
            stub.Unary(Message(text="a"), timeout=5)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        counted.mesh.apply([])
        assert stub.Unary(Message(text="a"), timeout=5).text == "a"


def test_a_delay_is_injected_before_the_application(runtime):
    patch = fault_patch(delay={"fixed_delay": "0.2s", "percentage": {"numerator": 100}})
    counted = Counted(envoy_filter("f", patch))
    with counted.mesh, probe(runtime, counted.mesh) as server, server.stub() as stub:
        assert call(stub, "Chat", timeout=5) == ["a", "a"]
        assert counted.settled({("200", "0", "DI"): 1})
        ((_, milliseconds),) = counted.samples("istio_request_duration_milliseconds_sum")
        assert milliseconds >= 200


def test_a_header_asks_for_a_fault_where_the_filter_lets_it(runtime):
    patch = fault_patch(abort={"header_abort": {}, "percentage": {"numerator": 100}})
    counted = Counted(envoy_filter("f", patch))
    with counted.mesh, probe(runtime, counted.mesh) as server, server.stub() as stub:
        assert stub.Unary(Message(text="a"), timeout=5).text == "a"
        with pytest.raises(grpc.RpcError) as caught:
            stub.Unary(Message(text="a"), timeout=5, metadata=(("x-envoy-fault-abort-grpc-request", "10"),))
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
            _ = one(b"", timeout=5) if one is not None else call(stubs.EchoStub(channel), kind, timeout=5)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert caught.value.details() == "RBAC: access denied"
        assert counted.settled({("200", "7", "-"): 1})
    assert server.notes.seen == []


def test_a_closed_mesh_serves_nothing(runtime, counted):
    with probe(runtime, counted.mesh) as server, server.stub() as stub:
        counted.mesh.close()
        with pytest.raises(grpc.RpcError) as caught:
            stub.Unary(Message(text="a"), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert server.notes.seen == []


# -- callers that go away ---------------------------------------------------------------------------------------------


def test_a_caller_that_goes_away_amid_a_stream_is_counted_once_and_the_handler_is_closed(runtime, counted):
    if runtime == "plain":
        pytest.skip("grpcio leaves the pool's thread hanging for ever when a plain generator's caller goes away")
    with probe(runtime, counted.mesh) as server, server.stub() as stub:
        stream = stub.Expand(Message(text="a", count=1_000_000))
        next(stream)
        next(stream)
        stream.cancel()
        assert server.notes.closed.wait(30)
        assert counted.settled({("200", "2", "DR"): 1})
        assert call(stub, "Expand", "b") == ["b0", "b1"]
        assert counted.settled({("200", "2", "DR"): 1, ("200", "0", "-"): 1})
    closing = [seen for seen in server.notes.seen if seen.where == "Expand closed"]
    assert len(closing) == 2
    assert all(seen.request is not None for seen in closing), "what a handler cleans up may ask whom it serves"


@pytest.mark.parametrize("kind", ["Unary", "Collect"])
def test_a_caller_that_goes_away_before_the_answer_is_counted_without_a_status(runtime, counted, kind):
    if runtime == "plain":
        pytest.skip("grpcio does not tell plain functions on asyncio servers")
    with probe(runtime, counted.mesh) as server, server.stub() as stub:
        message = Message(text="wait")
        future = getattr(stub, kind).future(message if kind == "Unary" else iter([message]))
        assert server.notes.waiting.wait(30)
        future.cancel()
        if runtime == "threads":
            # a thread cannot be interrupted: it is counted when its handler returns
            assert not counted.results
            assert eventually(lambda: not server.notes.context.is_active())
            server.notes.release.set()
        assert counted.settled({("0", "", "DR"): 1}), counted.results


def test_a_deadline_that_passes_in_the_handler_is_what_is_counted(runtime, counted):
    if runtime == "plain":
        pytest.skip("grpcio does not tell plain functions on asyncio servers")
    with probe(runtime, counted.mesh) as server, server.stub() as stub:
        with pytest.raises(grpc.RpcError) as caught:
            stub.Unary(Message(text="wait"), timeout=0.8)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if runtime == "threads":
            assert eventually(lambda: not server.notes.context.is_active())
            server.notes.release.set()
        assert counted.settled({("200", "4", "-"): 1})


def test_chats_that_their_callers_break_off_end_their_handlers_and_are_counted_once_each(runtime, counted):
    if runtime == "plain":
        pytest.skip("grpcio does not tell plain functions on asyncio servers")

    def requests(until: threading.Event) -> Iterator[Any]:
        yield Message(text="a")
        until.wait(10)

    with probe(runtime, counted.mesh) as server, server.stub() as stub:
        for _ in range(20):
            over = threading.Event()
            stream = stub.Chat(requests(over))
            assert next(stream).text == "a"
            stream.cancel()
            over.set()
            assert server.notes.closed.wait(30)
            server.notes.closed.clear()
        assert eventually(lambda: sum(counted.results.values()) == 20)
    # grpcio may show a handler a stream that was broken off as one that has ended: then the call was a success to us, too
    assert set(counted.results) <= {("200", "2", "DR"), ("200", "0", "-")}
    assert counted.results["200", "2", "DR"]
    assert counted.messages() == (20, 20)


class Context:
    """A context of grpc.aio, as much as a generator of responses asks of it, in the hands of the test."""

    def __init__(self) -> None:
        self.callbacks: list[Any] = []

    def auth_context(self) -> dict[str, Any]:
        return {}

    def invocation_metadata(self) -> tuple[Any, ...]:
        return ()

    def peer(self) -> str:
        return "ipv6:%5B::1%5D:4711"

    def time_remaining(self) -> float | None:
        return None

    def code(self) -> Any:
        return None

    def add_done_callback(self, callback: Any) -> None:
        self.callbacks.append(callback)


@pytest.mark.parametrize("end", ["done", "dropped", "both"])
async def test_a_generator_that_hears_nothing_of_its_callers_leaving_is_counted_once_and_closed(counted, end):
    """grpcio cancels a call while it writes: the generator is told by a callback, or by being closed, or by both."""
    closed_for: list[Any] = []

    async def behaviour(request: Any, _context: Any) -> Any:
        try:
            while True:
                yield request
        finally:
            closed_for.append(counted.mesh.inbound())

    served = Served(counted.mesh._core, counted.mesh._telemetry_of_servers(), True)
    context = Context()
    responses = server_aio.response_stream(served, "/a.B/C", behaviour, False)("x", context)
    assert await anext(responses) == "x"
    assert counted.mesh.inbound() is None
    if end != "dropped":
        for callback in context.callbacks:
            callback(context)
        assert counted.results == {("200", "2", "DR"): 1}
    if end != "done":
        await responses.aclose()
    assert counted.results == {("200", "2", "DR"): 1}
    if end == "done":
        await responses.aclose()
    assert [request.peer for request in closed_for] == ["[::1]:4711"]
    assert counted.mesh.inbound() is None


# -- labels -----------------------------------------------------------------------------------------------------------


def test_labels_are_istios_of_the_destination_side(runtime):
    counted = Counted(service("ratings"))
    with counted.mesh, probe(runtime, counted.mesh) as server, server.stub() as stub:
        stub.Unary(Message(text="a"), timeout=5)
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
            channel.unary_unary("/any/thing")(b"x", timeout=5)
    own.shutdown()
    assert names[0].startswith("its-own")

"""What checks change of a gRPC call, its handler finds in its metadata and its caller in the initial metadata, in every way of
writing a handler; what a refusal has for the caller comes with its status, and nothing of why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.refusal import Refusal
from meshlib.transport.grpcio.server.shown import metadata_of
from tests.support.grpc_echo import Message
from tests.support.grpc_probe import RUNTIMES, probe

SENT = (("x-user", "eve"), ("x-user", "mallory"), ("x-kept", "1"), ("x-key-bin", b"\x00\xff"))


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    return request.param


def checking(check: Callable[[InboundRequest], Refusal | None]) -> meshlib.Mesh:
    mesh = meshlib.Mesh.from_resources([], registry=CollectorRegistry())
    assert mesh._core.live is not None
    mesh._core.live.inbound.default.checks = (check,)
    return mesh


class Generic(grpc.GenericRpcHandler):
    """Handlers that tell what they see, and send initial metadata of their own when asked."""

    def __init__(self, runtime: str) -> None:
        self.asynchronous = runtime in ("asyncio", "writer")
        self.seen: list[list[tuple[str, Any]]] = []

    def service(self, details: Any) -> Any:
        kind = details.method.rpartition("/")[2]
        if kind not in ("One", "Stream"):
            return None
        make = grpc.unary_unary_rpc_method_handler if kind == "One" else grpc.unary_stream_rpc_method_handler
        return make(getattr(self, f"{kind.lower()}_async" if self.asynchronous else kind.lower()))

    def note(self, context: Any) -> None:
        found = context.invocation_metadata()
        assert [(item[0], item[1]) for item in found] == [(key, value) for key, value in found]
        self.seen.append([(key, value) for key, value in found if key.startswith("x-")])

    def one(self, request: bytes, context: Any) -> bytes:
        self.note(context)
        if request == b"own":
            context.send_initial_metadata((("x-own", "1"),))
        if request == b"abort":
            context.abort(grpc.StatusCode.NOT_FOUND, "as asked")
        return request

    async def one_async(self, request: bytes, context: Any) -> bytes:
        self.note(context)
        if request == b"own":
            await context.send_initial_metadata((("x-own", "1"),))
        if request == b"abort":
            await context.abort(grpc.StatusCode.NOT_FOUND, "as asked")
        return request

    def stream(self, request: bytes, context: Any) -> Iterator[bytes]:
        self.note(context)
        if request == b"own":
            context.send_initial_metadata((("x-own", "1"),))
        yield request
        yield request

    async def stream_async(self, request: bytes, context: Any) -> Any:
        self.note(context)
        if request == b"own":
            await context.send_initial_metadata((("x-own", "1"),))
        yield request
        yield request


def changing(request: InboundRequest) -> None:
    request.put("x-user", b"ann")
    request.put("x-claims-bin", b"AAE")
    request.add("x-more", b"1")
    request.put("x-not-for-grpc", "ä".encode())
    request.for_caller.append((b"X-Limit", b"5"))
    request.for_caller.append((b"content-type", b"text/plain"))
    request.for_caller.append((b"grpc-status", b"0"))


@pytest.mark.parametrize("kind", ["One", "Stream"])
@pytest.mark.parametrize(("sent", "own"), [(b"a", []), (b"own", [("x-own", "1")])])
def test_the_handler_sees_what_checks_have_made_of_the_metadata(
    runtime: str, kind: str, sent: bytes, own: list[tuple[str, str]]
) -> None:
    handlers = Generic(runtime)
    with checking(changing) as mesh, probe(runtime, mesh, handlers=[handlers]) as server:
        with grpc.insecure_channel(server.address) as channel:
            if kind == "One":
                answer, call = channel.unary_unary("/any/One").with_call(sent, timeout=60, metadata=SENT)
                assert answer == sent
            else:
                call = channel.unary_stream("/any/Stream")(sent, timeout=60, metadata=SENT)
                assert list(call) == [sent, sent]
            initial = [(key, value) for key, value in call.initial_metadata() if key.startswith("x-")]
    assert initial == [("x-limit", "5"), *own]
    assert handlers.seen == [
        [("x-kept", "1"), ("x-key-bin", b"\x00\xff"), ("x-user", "ann"), ("x-claims-bin", b"\x00\x01"), ("x-more", "1")]
    ]


def test_an_abort_has_what_the_caller_is_to_get(runtime: str) -> None:
    with checking(changing) as mesh, probe(runtime, mesh, handlers=[Generic(runtime)]) as server:
        with grpc.insecure_channel(server.address) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/any/One")(b"abort", timeout=60)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "as asked")
    assert ("x-limit", "5") in list(caught.value.initial_metadata())


def test_a_call_that_no_check_changes_has_grpcios_own_context(runtime: str) -> None:
    handlers = Generic(runtime)
    with checking(lambda _request: None) as mesh, probe(runtime, mesh, handlers=[handlers]) as server:
        with grpc.insecure_channel(server.address) as channel:
            assert channel.unary_unary("/any/One")(b"a", timeout=60, metadata=SENT) == b"a"
    assert handlers.seen == [list(SENT)]


def test_handlers_that_write_their_responses_send_it_before_the_first() -> None:
    with checking(changing) as mesh, probe("writer", mesh) as server, server.stub() as stub:
        call = stub.Expand(Message(text="a", count=2), timeout=60)
        assert ("x-limit", "5") in list(call.initial_metadata())
        assert [m.text for m in call] == ["a0", "a1"]


def test_a_refusal_has_its_headers_for_the_caller_and_keeps_its_reason(runtime: str) -> None:
    def check(request: InboundRequest) -> Refusal:
        request.for_caller.append((b"x-limit", b"0"))
        return Refusal(
            403,
            b"RBAC: access denied",
            headers=((b"www-authenticate", b"Bearer"), (b"x-\xff", b"1")),
            detail="rbac_access_denied_matched_policy[ns[secret]-policy[p]-rule[0]]",
        )

    with checking(check) as mesh, probe(runtime, mesh, handlers=[Generic(runtime)]) as server:
        with grpc.insecure_channel(server.address) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/any/One")(b"a", timeout=60)
    error: Any = caught.value
    assert (error.code(), error.details()) == (grpc.StatusCode.PERMISSION_DENIED, "RBAC: access denied")
    trailing = [(key, value) for key, value in error.trailing_metadata() if not key.startswith("grpc-")]
    assert trailing == [("www-authenticate", "Bearer"), ("x-limit", "0")]
    assert "secret" not in f"{error.initial_metadata()}{error.trailing_metadata()}{error.debug_error_string()}"


def test_a_refusal_with_a_status_that_grpc_does_not_have_is_one_all_the_same(runtime: str) -> None:
    for status in (0, 99):
        with checking(lambda _request, s=status: Refusal(403, "no", grpc_status=s)) as mesh:
            with probe(runtime, mesh) as server, server.stub() as stub:
                with pytest.raises(grpc.RpcError) as caught:
                    stub.Unary(Message(text="a"), timeout=60)
            assert caught.value.code() is grpc.StatusCode.UNKNOWN
            assert server.notes.seen == []


def test_what_grpc_has_no_place_for_is_left_out() -> None:
    headers = [
        (b"X-A", b"1"), (b"x a", b"1"), (b":path", b"/"), (b"grpc-timeout", b"1S"), (b"te", b"trailers"), (b"x-b", b"\xe4"),
        (b"x-c", b"a\nb"), (b"x-d-bin", b"AAE="), (b"x-e-bin", b"not base64!"),
    ]  # fmt: skip
    assert list(metadata_of(headers)) == [("x-a", "1"), ("x-d-bin", b"\x00\x01"), ("x-e-bin", b"not base64!")]

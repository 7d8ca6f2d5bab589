"""What a handler gets is the same in threads and on asyncio: its request or a counted stream of them, and grpcio's own context
as long as nothing has to be said otherwise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from meshlib.transport.grpcio.server import loop, spliced, threads
from meshlib.transport.grpcio.server.handed_over import handed_over
from meshlib.transport.grpcio.server.served import note_response
from meshlib.transport.grpcio.server.shown import Changed, LoopChanged, ThreadChanged
from meshlib.transport.grpcio.server.spliced import Spliced, SplicedContext
from tests.support.grpc_echo import Message

RUNTIMES: list[Any] = [(ThreadChanged, threads.ThreadRequests), (LoopChanged, loop.LoopRequests)]
NAME = "\0meshlib-test-handed-over"


def call_of(changes: bool = False) -> Any:
    request = SimpleNamespace(for_application=None, changes_response=changes, response_headers=lambda headers: [])
    counts = dict.fromkeys(("request_messages", "request_bytes", "response_messages", "response_bytes"), 0)
    return SimpleNamespace(request=request, **counts)


def context_of(peer: str = "ipv4:10.0.0.1:1") -> Any:
    return SimpleNamespace(peer=lambda: peer, invocation_metadata=lambda: (("a", "b"),))


@pytest.fixture
def ours() -> Any:
    spliced.keep(NAME, Spliced("10.0.0.9:4711", 50051, None, lambda: None))
    yield spliced.peer_named(NAME)
    spliced.forget(NAME)


@pytest.mark.parametrize(("changed", "_counted"), RUNTIMES)
@pytest.mark.parametrize(("message", "size"), [(b"abc", 8), (Message(text="abc"), 10), ({"no": "message"}, 0)])
def test_a_request_is_handed_over_as_it_is_and_counted(message, size, changed, _counted):
    call, context = call_of(), context_of()
    assert handed_over(call, message, context, changed, None) == (message, context)
    assert (call.request_messages, call.request_bytes) == (1, size)
    note_response(call, message)
    assert (call.response_messages, call.response_bytes) == (1, size)


@pytest.mark.parametrize(("changed", "counted"), RUNTIMES)
def test_a_stream_of_requests_is_counted_as_it_is_read_and_not_before(changed, counted):
    call = call_of()
    requests, _ = handed_over(call, iter([b"a"]), context_of(), changed, counted)
    assert type(requests) is counted
    assert (call.request_messages, call.request_bytes) == (0, 0)


@pytest.mark.parametrize(("changed", "_counted"), RUNTIMES)
def test_what_checks_have_changed_is_around_what_tells_where_a_call_comes_from(ours, changed, _counted):
    _, context = handed_over(call_of(changes=True), b"", context_of(ours), changed, None)
    assert type(context) is changed
    assert isinstance(context, Changed)
    assert type(context._context) is SplicedContext
    assert context.peer() == "ipv4:10.0.0.9:4711"


@pytest.mark.parametrize(("changed", "_counted"), RUNTIMES)
def test_a_call_to_a_port_of_the_mesh_tells_the_peers_address_alone(ours, changed, _counted):
    _, context = handed_over(call_of(), b"", context_of(ours), changed, None)
    assert type(context) is SplicedContext

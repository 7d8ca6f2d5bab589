"""What a call raises that the mesh has ended: the code of Envoy's response, Envoy's words, and then the mesh's own."""

from __future__ import annotations

import grpc
import pytest

from meshlib.engine import replies
from meshlib.engine.outcome import Failure, Outcome
from meshlib.errors import CallError
from meshlib.transport.grpcio.client.errors import RpcFailed, error_of, ok_without_message
from meshlib.transport.grpcio.client.outcome import GrpcOutcome
from tests.support.grpc_begun import begun
from tests.support.grpc_runtimes import HOST, mesh_of
from tests.support.resources import to

BROKEN = "upstream connect error or disconnect/reset before headers. reset reason: "
ROUTE = f"VirtualService/default/echo http[0] -> {HOST}/p1"
LAST = f"{ROUTE}; last endpoint 127.0.0.1:1"
Code = grpc.StatusCode


@pytest.fixture
def mesh():
    with mesh_of(1, rules=[{"route": [to(HOST, "p1")], "timeout": "2s"}]) as made:
        yield made


def under_way(mesh, **more):
    """A call whose first attempt is to be made, and what it must not outlive."""
    call, exchange = begun(mesh, **more)
    next(exchange)
    return call, exchange


@pytest.mark.parametrize(
    ("failure", "detail", "code", "begins"),
    [
        (Failure.CONNECT_FAILED, "nobody listens", Code.UNAVAILABLE, BROKEN),
        (Failure.RESET, "Socket closed", Code.UNAVAILABLE, BROKEN + "connection termination"),
        (Failure.RESET, "RST_STREAM", Code.UNAVAILABLE, BROKEN + "remote reset"),
        (Failure.TIMEOUT, "too slow", Code.UNAVAILABLE, "upstream request timeout"),
        (Failure.OVERFLOW, "full", Code.UNAVAILABLE, BROKEN + "overflow"),
        (Failure.INVALID_REQUEST, "Invalid metadata", Code.INTERNAL, "Invalid metadata"),
        (Failure.INVALID_REQUEST, "Sent message larger than max", Code.RESOURCE_EXHAUSTED, "Sent message larger"),
        (Failure.REQUEST_BODY_FAILED, "it raised", Code.UNKNOWN, "Exception iterating requests!"),
    ],
)
def test_a_failure_is_a_status_in_envoys_words_and_the_meshs(mesh, failure, detail, code, begins):
    call, _held = under_way(mesh)
    cause = OSError("of the system")
    made = error_of(Outcome(failure, detail, cause), call)
    assert isinstance(made, RpcFailed)
    assert (made.code(), made.exchange, made.__cause__) == (code, call.record, cause)
    assert made.details().startswith(begins)
    assert made.details().endswith(f" ({detail}; {LAST})")
    assert call.record.grpc_status == code.value[0]


@pytest.mark.parametrize(("timeout", "code"), [(0.0, Code.DEADLINE_EXCEEDED), (60.0, Code.UNAVAILABLE)])
def test_whose_time_has_passed_makes_the_status(mesh, timeout, code):
    call, _held = under_way(mesh, timeout=timeout)
    assert error_of(Outcome(Failure.TIMEOUT, "Deadline Exceeded"), call).code() is code


def test_a_route_that_took_too_long_says_which_limit_it_was(mesh):
    call, _held = under_way(mesh)
    made = error_of(Outcome(Failure.TIMEOUT, "Deadline Exceeded"), call)
    assert "no response within the route's timeout of 2 s" in made.details()


def test_what_grpcio_would_have_raised_for_a_mistake_is_raised(mesh):
    call, _held = under_way(mesh)
    for mistake in (TypeError("no bytes"), ValueError("no name")):
        assert error_of(Outcome(Failure.INVALID_REQUEST, "?", mistake), call) is mistake
    odd = error_of(Outcome(Failure.INVALID_REQUEST, "?", LookupError("?")), call)
    assert isinstance(odd, RpcFailed)


def test_the_story_is_in_the_trailing_metadata_in_ascii(mesh):
    call, _held = under_way(mesh)
    call.record.add_flag("UF")
    trailing = dict(iter(error_of(Outcome(Failure.CONNECT_FAILED, "caf\xe9\n"), call).trailing_metadata()))
    assert trailing == {
        "meshlib-flags": "UF",
        "meshlib-route": ROUTE,
        "meshlib-reason": f"caf??; {LAST}; flags UF",
    }


def test_a_policys_response_is_its_status_and_only_ok_is_no_error(mesh):
    call, _held = under_way(mesh)
    made = replies.reply(429, "slow down", [(b"x", b"1")])
    error = error_of(made, call)
    assert (error.code(), error.details()) == (Code.UNAVAILABLE, f"slow down ({LAST})")
    assert dict(iter(error.trailing_metadata()))["x"] == "1"
    assert ok_without_message(made, call) is None
    made.grpc_status = 0
    ok = ok_without_message(made, call)
    assert type(ok) is GrpcOutcome
    assert (ok.message, ok.call.code(), ok.grpc_status) == (None, Code.OK, 0)


def test_it_is_what_callers_of_grpcio_catch_and_a_call_that_is_over():
    made = RpcFailed(Code.ABORTED, "no", (), None)
    assert isinstance(made, (grpc.RpcError, grpc.aio.AioRpcError, CallError))
    assert (made.done(), made.running(), made.cancelled(), made.is_active()) == (True, False, False, False)
    assert (made.cancel(), made.add_callback(lambda: None), made.time_remaining()) == (False, False, None)
    assert made.exception() is made
    told = []
    made.add_done_callback(told.append)
    assert told == [made]
    with pytest.raises(RpcFailed) as raised:
        made.result()
    assert raised.value is made
    assert made.traceback() is made.__traceback__

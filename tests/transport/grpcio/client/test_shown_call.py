"""What callers are shown of an attempt: grpcio's own object, with the mesh's record and what rules made of its metadata."""

from __future__ import annotations

from types import SimpleNamespace

import grpc
import pytest

from meshlib.transport.grpcio.client.errors import RpcFailed
from meshlib.transport.grpcio.client.outcome import GrpcOutcome
from meshlib.transport.grpcio.client.shown_call import Metadatum, with_metadata


def inner(details=""):
    return SimpleNamespace(details=lambda: details, initial_metadata=lambda: (("server", "1"),))


def record():
    return SimpleNamespace(grpc_status=None)


def test_grpcios_object_stays_and_has_the_record():
    call, made = inner(), record()
    assert with_metadata(call, GrpcOutcome(b"x", call), made) is call
    assert call.exchange is made
    assert call.initial_metadata() == (("server", "1"),)


def test_what_a_rule_changed_is_the_initial_metadata_of_a_response():
    call = inner()
    outcome = GrpcOutcome(b"x", call)
    outcome.tell_headers((("server", "1"),), None, "")
    outcome.headers = [*outcome.headers, (b"added", b"2")]
    with_metadata(call, outcome, record())
    assert call.initial_metadata() == (("server", "1"), ("added", "2"))
    assert [(pair.key, pair.value) for pair in call.initial_metadata()] == [("server", "1"), ("added", "2")]


def test_and_the_trailing_metadata_of_a_response_that_is_nothing_but_a_status():
    call = inner("gone")
    outcome = GrpcOutcome(None, call, 5, at_once=True)
    outcome.tell_headers(None, (("server", "1"),), "gone")
    assert with_metadata(call, outcome, record()) is call
    assert call.trailing_metadata() == (("server", "1"),)


@pytest.mark.parametrize(("status", "code"), [(b"14", grpc.StatusCode.UNAVAILABLE), (b"99", grpc.StatusCode.NOT_FOUND)])
def test_a_rule_may_change_the_status_and_its_message_to_ones_that_there_are(status, code):
    call, made = inner("gone"), record()
    outcome = GrpcOutcome(None, call, 5, at_once=True)
    outcome.tell_headers(None, (), "gone")
    outcome.headers = [(b"grpc-status", status), (b"grpc-message", b"changed")]
    shown = with_metadata(call, outcome, made)
    assert isinstance(shown, RpcFailed)
    assert (shown.code(), shown.details(), made.grpc_status) == (code, "changed", code.value[0])


def test_pairs_have_names_as_grpcios():
    pair = Metadatum(("x", "1"))
    assert (pair.key, pair.value, tuple(pair)) == ("x", "1", ("x", "1"))

"""What is counted and changed of the messages between an ASGI server and its application."""

from __future__ import annotations

import pytest

from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.ext_authz import Change
from meshlib.transport.asgi.messages import changed_head, declared_length, grpc_status, length_of, size


def test_the_size_of_headers_is_that_of_names_and_values():
    assert size([(b"a", b"123"), (b"bc", b"")]) == 6
    assert size(()) == 0


def test_headers_are_changed_in_a_copy():
    request = InboundRequest("GET", "/")
    request.for_caller.append((b"b", b"2"))
    message = {"type": "http.response.start", "status": 200, "headers": [(b"a", b"1"), (b"C", b"3")]}
    assert changed_head(message, request)["headers"] == [(b"a", b"1"), (b"C", b"3"), (b"b", b"2")]
    request.tell_caller((Change("c", b"4"), Change("d", b"5", "add")))
    assert changed_head(message, request)["headers"] == [(b"a", b"1"), (b"b", b"2"), (b"d", b"5"), (b"c", b"4")]
    assert message["headers"] == [(b"a", b"1"), (b"C", b"3")]
    assert changed_head({"type": "websocket.accept"}, request)["headers"][0] == (b"b", b"2")


@pytest.mark.parametrize(("value", "wanted"), [(b"12", 12), (b"x", 0), (b"", 0), (b"-1", 0)])
def test_a_declared_length_is_a_number(value, wanted):
    assert declared_length([(b"a", b"9"), (b"Content-Length", value)]) == wanted


def test_nothing_declared_is_no_bytes():
    assert declared_length([(b"a", b"9")]) == 0


@pytest.mark.parametrize(
    ("message", "wanted"),
    [({"bytes": b"12"}, 2), ({"text": "abc"}, 3), ({"text": "é"}, 2), ({"bytes": None, "text": "a"}, 1), ({}, 0)],
)
def test_a_message_of_a_websocket_is_as_long_as_its_bytes(message, wanted):
    assert length_of(message) == wanted


def test_the_grpc_status_is_the_last_one_said():
    assert grpc_status([(b"x", b"1"), (b"Grpc-Status", b"7")], None) == 7
    assert grpc_status([(b"grpc-status", b"x")], 3) == 3
    assert grpc_status((), None) is None

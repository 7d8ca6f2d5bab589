"""A call that goes straight to its application is what a server would make of the same request."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import meshlib
from meshlib.engine.call import Call
from meshlib.engine.inbound import InboundCall
from meshlib.engine.wanted_headers import WantedHeaders
from meshlib.policy.refusal import Refusal
from meshlib.proxy.inbound_request import ServedRequest
from meshlib.proxy.request import ProxyRequest
from meshlib.proxy.straight_call import StraightCall


def request() -> ServedRequest:
    lines = b"Host: a\r\n"
    sent = ProxyRequest(b"GET", b"a", b"/", lines, b"\r\n" + lines.lower(), None)
    return ServedRequest(sent, "10.0.0.7:4711", "10.0.0.1", 9080, "", False)


def test_it_is_what_a_server_would_make_of_the_same_request() -> None:
    with meshlib.Mesh.from_resources([], seed=1, access_log="stdout") as mesh:
        server, asked = mesh._server(), request()
        bound = mesh._core.live.inbound.default  # type: ignore[union-attr]
        made, usual = StraightCall(asked, bound, server), server.call(asked)
        for name in vars(InboundCall):
            if not name.startswith("_") and not callable(getattr(usual, name)) and name != "started":
                assert getattr(made, name) == getattr(usual, name), name
        for name in vars(usual):
            assert getattr(made, name) == getattr(usual, name), name
        assert made.tells
        assert made.started > 0.0 == usual.started


WANTED = WantedHeaders(("host", "x-a"))
HOP = {"status": 200, "flags": "", "endpoint": "10.0.0.9:80", "rule_object": "rule", "destination": "there"}


class Hop:
    """A call to the application that is over: what a line of the access log asks of it."""

    went = Call.went

    def __init__(self) -> None:
        self.outcome = SimpleNamespace(failure=None, http_version=b"HTTP/1.1")
        self.record = SimpleNamespace(**HOP, _attempts=None, answered=(self.outcome, 1.0, False))


@pytest.fixture
def call() -> Iterator[Any]:
    """One that has gone on to its application, and has its response."""
    with meshlib.Mesh.from_resources([], seed=1, access_log="stdout") as mesh:
        bound = mesh._core.live.inbound.default  # type: ignore[union-attr]
        made: Any = StraightCall(request(), bound, mesh._server())
        made.hop = Hop()
        made.status, made.head_at = 200, 2.0
        made.request_bytes, made.request_head_bytes, made.response_bytes, made.response_head_bytes = 30, 10, 70, 40
        yield made


def usual(call: Any) -> Any:
    """What calls say that have no way of their own to it."""
    return InboundCall.facts(call, WANTED)


def test_its_facts_are_those_of_any_other(call: Any) -> None:
    assert call.facts(WANTED)[1:] == usual(call)[1:]
    for name, value in {"path": "/\xe4", "query": "a=1", "authority": "\xff", "peer": "unix:/a"}.items():
        setattr(call.request, name, value)
        path, query = call.request.path, call.request.query
        call.request.target = f"{path}?{query}".encode("latin-1") if query else path.encode("latin-1")
        assert call.facts(WANTED)[1:] == usual(call)[1:], name
    call.request_bytes = call.response_bytes = 0
    assert call.facts(WANTED)[5:7] == usual(call)[5:7] == (0, 0)


def test_calls_are_of_one_kind_where_any_others_would_be(call: Any) -> None:
    kinds = {call.facts(WANTED)[0]}
    of_request = ("method", "version", "http2", "protocol", "principal", "sni", "local_ip", "port")
    changes = [(call, name) for name in ("status", "flags", "grpc_status")]
    changes += [(call.request, name) for name in of_request]
    changes += [(call.hop.record, name) for name in HOP]
    changes.append((call.hop.outcome, "http_version"))
    for of, name in changes:
        usually = usual(call)[0]
        setattr(of, name, f"another {name}")
        assert usual(call)[0] != usually, name
        kinds.add(call.facts(WANTED)[0])
    assert len(kinds) == len(changes) + 1


@pytest.mark.parametrize(
    ("of", "name", "value"),
    [
        ("hop.record", "_attempts", ()),
        ("hop.record", "answered", (SimpleNamespace(failure=None), 1.0, True)),
        ("hop.outcome", "failure", "reset"),
        ("", "refusal", Refusal(403, "")),
        ("", "made_id", "an id"),
        ("", "head_at", 0.0),
    ],
)
def test_it_has_none_where_any_other_would_have_none(call: Any, of: str, name: str, value: object) -> None:
    assert call.facts(WANTED) is not None
    changed = call
    for part in filter(None, of.split(".")):
        changed = getattr(changed, part)
    setattr(changed, name, value)
    assert call.facts(WANTED) is usual(call) is None


def test_nor_where_it_began_before_there_was_a_log(call: Any) -> None:
    del call.hop.record.answered
    assert call.facts(WANTED) is usual(call) is None


def test_one_that_was_answered_here_is_as_any_other(call: Any) -> None:
    call.hop = None
    assert call.facts(WANTED) == usual(call)

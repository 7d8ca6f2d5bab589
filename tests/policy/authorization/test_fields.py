"""Fields: what is unknown, what a peer without identity is, and how much is remembered."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.policy.authorization.fields import (
    LONGEST_REMEMBERED,
    BadCondition,
    kind_of,
    most_remembered,
    size_of,
    unknown_to,
)
from meshlib.policy.authorization.rules import Condition
from meshlib.policy.authorization.table import RuleTable, field_of
from tests.policy.authorization.requests import SLEEP, one, policy, request, when


def matches(condition: Condition, asked: Any, permits: bool) -> bool:
    table = RuleTable([policy("ALLOW" if permits else "DENY", when(condition))], permits=permits)
    return table.first(asked) is not None


UNKNOWN = [
    ("hosts", "app.test", {"host": None}),
    ("hosts", "*", {"host": ""}),
    ("request.headers[:authority]", "app.test", {"host": None}),
    ("request.headers[Host]", "app.test", {"host": None}),
    ("destination.port", "80", {"port": 0}),
    ("destination.ip", "0.0.0.0/0", {"local_ip": ""}),
    ("source.ip", "10.0.0.0/8", {"source_ip": ""}),
    ("remote.ip", "10.0.0.0/8", {"source_ip": ""}),
    ("connection.sni", "app.test", {"secure": True}),
    ("experimental.envoy.filters.a.b[c]", "x", {}),
    ("source.namespace", "x", {"principal": "spiffe://td" + "/ns/a" * 99}),
]


@pytest.mark.parametrize(("key", "value", "facts"), UNKNOWN)
def test_what_nobody_knows_counts_against_the_caller(key: str, value: str, facts: dict[str, Any]) -> None:
    for condition in (one(key, value), one(key, none_of=[value])):
        assert matches(condition, request(**facts), permits=False)
        assert not matches(condition, request(**facts), permits=True)


@pytest.mark.parametrize("key", ["source.principal", "source.namespace", "source.serviceAccount", "source.trustDomain"])
def test_a_peer_without_identity(key: str) -> None:
    """It has none of the values; and no excluded one where that would refuse it, but not where that would let it in."""
    for value in ("*", "default/sleep"):
        assert not matches(one(key, value), request(), permits=True)
        assert not matches(one(key, value), request(), permits=False)
        assert not matches(one(key, none_of=[value]), request(), permits=True)
        assert matches(one(key, none_of=[value]), request(), permits=False)
    assert matches(one(key, none_of=["other/other"]), request(principal=SLEEP), permits=True)


def test_without_a_token_excluded_principals_of_requests_are_as_envoys() -> None:
    assert matches(one("request.auth.principal", none_of=["*"]), request(), permits=True)
    assert matches(one("request.auth.principal", none_of=["*"]), request(), permits=False)
    assert not matches(one("request.auth.principal", "*"), request(), permits=True)
    assert matches(one("request.auth.principal", "*"), request(claims={"iss": "a", "sub": "b"}), permits=True)


def test_headers_of_either_effect() -> None:
    both = request(headers=[("x", "a"), ("x", "b")])
    assert matches(one("request.headers[x]", "a"), both, permits=False)
    assert not matches(one("request.headers[x]", "a"), both, permits=True)
    assert matches(one("request.headers[x]", none_of=["a"]), both, permits=False)
    assert not matches(one("request.headers[x]", none_of=["a"]), both, permits=True)


def test_pseudo_headers() -> None:
    asked = request("/a?b=c", method="PUT", headers=[("host", "forged.test")])
    for key, value in ((":method", "PUT"), (":authority", "app.test"), ("host", "app.test"), (":scheme", "http")):
        assert matches(one(f"request.headers[{key}]", value), asked, permits=True)
        assert not matches(one(f"request.headers[{key}]", "other"), asked, permits=True)


def test_plain_text_has_no_server_name() -> None:
    assert not matches(one("connection.sni", "*"), request(), permits=False)
    assert matches(one("connection.sni", none_of=["a"]), request(), permits=True)
    assert matches(one("connection.sni", "app.test"), request(secure=True, sni="App.Test"), permits=True)


@pytest.mark.parametrize(
    "key", ["", "source.colour", "request.headers", "request.headersx", "request.auth.claims", "paths "]
)
def test_what_is_no_condition(key: str) -> None:
    with pytest.raises(BadCondition):
        kind_of(key)


def test_memory_is_bounded_by_entries_and_by_bytes() -> None:
    assert most_remembered(1) == 4096
    assert 16 <= most_remembered(1 << 1_000_000) < 100
    field = field_of("methods", [(1, one("methods", "GET"))], 1, 1, "BASE")
    for number in range(5000):
        field.find(f"M{number}")
    assert 0 < len(field.memo) <= 4096
    before = len(field.memo)
    field.find("x" * (LONGEST_REMEMBERED + 1))
    assert len(field.memo) == before
    assert size_of(("ab", None, ("c",))) > 3


def test_what_a_world_can_never_know() -> None:
    known = {"host": True, "port": True}
    assert not unknown_to("hosts", **known)
    assert unknown_to("hosts", host=False, port=True)
    assert unknown_to("request.headers[HOST]", host=False, port=True)
    assert unknown_to("destination.port", host=True, port=False)
    assert unknown_to("experimental.envoy.filters.a[b]", **known)
    assert not unknown_to("paths", host=False, port=False)


def test_some_headers_are_one_line_to_envoy() -> None:
    """A real one's: tests/differential/test_authorization_decisions.py."""
    for name, both in (("x-user", True), ("authorization", False)):
        twice = request(headers=[(name, "a"), (name, "a")])
        assert matches(one(f"request.headers[{name}]", "a"), twice, permits=True) is both
        assert matches(one(f"request.headers[{name}]", "a"), twice, permits=False)
        assert matches(one(f"request.headers[{name}]", none_of=["a"]), twice, permits=False) is not both
    assert matches(one("request.headers[authorization]", "a,a"), twice, permits=True)

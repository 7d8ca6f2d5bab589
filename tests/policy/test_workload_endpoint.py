"""SPIFFE_ENDPOINT_SOCKET, as section 4 of the SPIFFE Workload Endpoint specification has it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.workload_endpoint import target_of


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("unix:///run/spire/agent.sock", "unix:/run/spire/agent.sock"),
        ("unix:/run/spire/agent.sock", "unix:/run/spire/agent.sock"),
        ("tcp://127.0.0.1:8081", "127.0.0.1:8081"),
        ("tcp://[::1]:8081", "[::1]:8081"),
    ],
)
def test_what_grpc_dials(uri: str, target: str) -> None:
    assert target_of(uri) == target


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("", "must have the scheme unix or tcp"),
        ("/run/agent.sock", "must have the scheme unix or tcp"),
        ("http://127.0.0.1:1", "must have the scheme unix or tcp"),
        ("UNIX:/run/agent.sock", "must have the scheme unix or tcp"),
        ("unix:agent.sock", "not absolute"),
        ("unix://agent.sock", "has the authority 'agent.sock'"),
        ("unix://run/agent.sock", "has the authority 'run'"),
        ("unix://jo@/run/a.sock", "userinfo"),
        ("unix:", "has no path"),
        ("unix:///", "has no path"),
        ("unix:///a.sock?x=1", "query"),
        ("unix:///a.sock#x", "fragment"),
        ("unix:///a%2fb", "percent-encoded"),
        ("unix:///" + "a" * 120, "more than 107 bytes"),
        ("unix:///a b", "a character that no URI has"),
        ("unix:///a\n", "a character that no URI has"),
        ("tcp:127.0.0.1:1", "has no address"),
        ("tcp://", "has no address"),
        ("tcp://localhost:1", "not a valid IP address"),
        ("tcp://127.0.0.1", "has no port"),
        ("tcp://[::1]", "has no port"),
        ("tcp://127.0.0.1:", "the port ''"),
        ("tcp://127.0.0.1:0", "the port '0'"),
        ("tcp://127.0.0.1:65536", "the port '65536'"),
        ("tcp://127.0.0.1:+1", "the port '+1'"),
        ("tcp://127.0.0.1:1/", "has a path"),
        ("tcp://jo@127.0.0.1:1", "userinfo"),
        ("tcp://127.0.0.1:1?x", "query"),
        ("tcp://127.0.0.1:1#x", "fragment"),
        ("tcp://::1:1", "not in brackets"),
        ("tcp://[127.0.0.1]:1", "brackets around IPv4"),
    ],
)
def test_what_is_no_endpoint_says_why(uri: str, why: str) -> None:
    with pytest.raises(ValueError, match="^[a-z]") as raised:
        target_of(uri)
    assert why in str(raised.value)


@given(st.text() | st.builds("{}{}".format, st.sampled_from(["unix:", "unix://", "tcp://", "tcp://[::1]:"]), st.text()))
def test_any_text_is_an_endpoint_or_a_reason(uri: str) -> None:
    try:
        target = target_of(uri)
    except ValueError as error:
        assert str(error)
    else:
        assert target.startswith("unix:/") or target.rpartition(":")[2].isdecimal()

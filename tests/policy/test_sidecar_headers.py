"""What a sidecar changes about the headers of a request that comes to its application."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.forwarded_client_cert import ForwardClientCert
from meshlib.policy.sidecar_headers import (
    FOR_THE_PROXY,
    NOT_BELIEVED,
    at_the_sidecar,
    inbound_lines,
    outbound_lines,
    proto_line,
)

APPEND = ForwardClientCert.APPEND_FORWARD
MINE = b'By=spiffe://td/a;Hash=1;Subject="";URI=spiffe://td/b'


def seen(
    *lines: bytes, secure: bool = False, mode: ForwardClientCert = APPEND, mine: bytes | None = None
) -> list[bytes]:
    came = b"".join(line + b"\r\n" for line in lines)
    lines_after, lower = inbound_lines(came, b"\r\n" + came.lower(), proto_line(secure), mode, mine)
    assert lower == b"\r\n" + lines_after.lower()
    return lines_after.split(b"\r\n")[:-1]


def test_the_application_is_told_the_scheme_of_the_connection():
    assert seen(b"Host: a") == [b"Host: a", b"x-forwarded-proto: http"]
    assert seen(b"Host: a", secure=True) == [b"Host: a", b"x-forwarded-proto: https"]


def test_a_scheme_that_came_is_believed():
    assert seen(b"X-Forwarded-Proto: https") == [b"X-Forwarded-Proto: https"]


@pytest.mark.parametrize("line", [b"X-Forwarded-Proto:", b"x-forwarded-proto: \t"])
def test_a_scheme_that_says_nothing_is_none(line):
    assert seen(b"a: b", line, secure=True) == [b"a: b", b"x-forwarded-proto: https"]


def test_forwarded_addresses_stay_as_they_came():
    lines = [b"X-Forwarded-For: 1.2.3.4", b"Forwarded: for=1.2.3.4", b"X-Forwarded-Host: a", b"X-Forwarded-Port: 1"]
    assert seen(*lines) == [*lines, b"x-forwarded-proto: http"]


@pytest.mark.parametrize("name", sorted(NOT_BELIEVED | FOR_THE_PROXY))
def test_what_only_an_internal_request_or_another_proxy_says_does_not_reach_the_application(name):
    for spelling in (name, name.upper(), name.title()):
        assert seen(b"Host: a", spelling + b": 1", spelling + b":2", b"b: c") == [
            b"Host: a",
            b"b: c",
            b"x-forwarded-proto: http",
        ]


@pytest.mark.parametrize("address", [b"10.0.0.1", b"127.0.0.1", b"192.168.1.1", b"::1"])
def test_no_address_makes_a_request_internal(address):
    assert b"x-envoy-retry-on: 5xx" not in seen(b"x-forwarded-for: " + address, b"x-envoy-retry-on: 5xx")


@pytest.mark.parametrize(
    "name", [b"original-path", b"external-address", b"downstream-service-cluster", b"attempt-count"]
)
def test_other_headers_of_envoys_pass(name):
    line = b"X-Envoy-" + name + b": 1"
    assert seen(line) == [line, b"x-forwarded-proto: http"]


def test_a_client_certificate_in_plain_text_is_nobodys():
    assert seen(b"X-Forwarded-Client-Cert: By=x;URI=spiffe://td/admin", b"a: b") == [
        b"a: b",
        b"x-forwarded-proto: http",
    ]


@pytest.mark.parametrize("name", [b"X_Forwarded_Client_Cert", b"x-forwarded_client-cert", b"x_forwarded_client_cert"])
def test_nor_is_one_that_an_application_would_read_as_it(name):
    """WSGI, PHP and Rack make the same name of ``-`` and ``_``."""
    evil = name + b": By=x;URI=spiffe://td/admin"
    assert seen(evil, b"a_b: c") == [b"a_b: c", b"x-forwarded-proto: http"]
    assert seen(evil, secure=True, mine=MINE) == [b"x-forwarded-proto: https", b"x-forwarded-client-cert: " + MINE]
    assert evil in seen(evil, mode=ForwardClientCert.ALWAYS_FORWARD_ONLY)


def test_over_mtls_the_applications_learns_whose_certificate_it_was():
    assert seen(b"a: b", secure=True, mine=MINE)[-1] == b"x-forwarded-client-cert: " + MINE
    came = seen(b"x-forwarded-client-cert: one", b"X-Forwarded-Client-Cert:  two ", secure=True, mine=MINE)
    assert came == [b"x-forwarded-proto: https", b"x-forwarded-client-cert: one,two," + MINE]


def test_where_it_is_always_forwarded_it_is_left_alone():
    line = b"X-Forwarded-Client-Cert: one"
    always = ForwardClientCert.ALWAYS_FORWARD_ONLY
    assert seen(line, mode=always) == [line, b"x-forwarded-proto: http"]
    assert seen(line, b"x-envoy-internal: true", mode=always, mine=MINE) == [line, b"x-forwarded-proto: http"]


NAMES = st.sampled_from(
    [
        b"x-envoy-internal",
        b"X-Envoy-Retry-On",
        b"x-forwarded-client-cert",
        b"a",
        b"host",
        b"x-envoy-x",
    ]
)


@given(
    st.lists(st.tuples(NAMES, st.sampled_from([b"", b"1", b" x-envoy-internal: 1", b"a,b"])), max_size=8), st.booleans()
)
def test_every_other_line_passes_in_its_order(pairs, secure):
    lines = [name + b":" + value for name, value in pairs]
    gone = NOT_BELIEVED | FOR_THE_PROXY | {b"x-forwarded-client-cert"}
    kept = [line for line in lines if line.partition(b":")[0].lower() not in gone]
    found = seen(*lines, secure=secure, mine=MINE if secure else None)
    assert found[: len(kept)] == kept
    assert {line.partition(b":")[0] for line in found[len(kept) :]} <= {
        b"x-forwarded-proto",
        b"x-forwarded-client-cert",
    }


# -- on the way out


def sent(*lines: bytes) -> list[bytes]:
    came = b"".join(line + b"\r\n" for line in lines)
    lines_after, lower = outbound_lines(came, b"\r\n" + came.lower())
    assert lower == b"\r\n" + lines_after.lower()
    return lines_after.split(b"\r\n")[:-1]


@pytest.mark.parametrize("name", [*sorted(NOT_BELIEVED), b"x-forwarded-client-cert"])
def test_what_an_application_says_of_certificates_and_of_routing_does_not_go_out(name):
    assert sent(b"Host: a", name.title() + b": 1", name + b":2", b"b: c") == [b"Host: a", b"b: c"]


@pytest.mark.parametrize(
    "line",
    [
        b"X-Forwarded-For: 1.2.3.4",
        b"X-Forwarded-Proto: https",
        b"x-envoy-original-path: /",
        b"X-Envoy-Peer-Metadata: a",
    ],
)
def test_everything_else_goes_out_as_it_came(line):
    assert sent(b"Host: a", line) == [b"Host: a", line]


SAID = (
    "x-forwarded-proto: http",
    "X-Forwarded-Proto:  HTTPS",
    "x-forwarded-proto:",
    "x-forwarded-proto: gopher",
    "x-forwarded-client-cert: URI=x",
    "X_Forwarded_Client_Cert: URI=x",
    "x-envoy-attempt-count: 1",
    "x-envoy-internal: true",
    "x-envoy-peer-metadata: x",
    "via: client-cert:",
    "a: http",
)


@pytest.mark.parametrize("mode", list(ForwardClientCert))
@pytest.mark.parametrize("mine", [None, b"By=A;Hash=1"])
@pytest.mark.parametrize("metadata_is_read", [False, True])
def test_what_is_said_of_a_connection_once_is_what_is_said_of_each_of_its_requests(mode, mine, metadata_is_read):
    rules = proto_line(True), mode, mine, metadata_is_read
    of_connection = at_the_sidecar(*rules)
    for first in ("", *SAID):
        for second in ("", *SAID):
            lines = b"".join(line.encode() + b"\r\n" for line in ("Host: A.test", first, second, "b: c") if line)
            lower = b"\r\n" + lines.lower()
            assert of_connection.of(lines, lower) == inbound_lines(lines, lower, *rules), (first, second)

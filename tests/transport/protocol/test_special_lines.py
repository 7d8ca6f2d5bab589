"""What follows from which lines a request's head has, without another look at it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.engine.wanted_headers import WantedHeaders
from meshlib.policy.forwarded_client_cert import ForwardClientCert
from meshlib.policy.sidecar_headers import at_the_sidecar, inbound_lines, proto_line
from meshlib.proxy.request import ProxyRequest
from meshlib.transport.protocol import special_lines as module
from meshlib.transport.protocol.special_lines import (
    CLIENT_CERTS,
    KNOWN,
    MOST_READINGS,
    SPECIAL,
    SpecialLines,
    special_lines,
)

NAMES = [
    *(
        "Host",
        "User-Agent",
        "user-agent",
        "X-User-Agent",
        "X-Request-Id",
        "traceparent",
        "TraceState",
        "x-forwarded-for",
        "x-forwarded-proto",
        "Cookie",
    ),
    *(
        "x-forwarded-client-cert",
        "X_Forwarded-Client_Cert",
        "x-envoy-internal",
        "x-envoy-mine",
        "grpc-timeout",
        "x-other",
    ),
]
HEADS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["", "a", " B ", "c,d", "http"])), max_size=8)
WANTED = WantedHeaders(
    ("x-request-id", "user-agent", "traceparent", "x-forwarded-for", "x-other", "cookie", "tracestate")
)


def of(pairs):
    """Header lines, the same in lower case, and what is special about them."""
    lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in pairs)
    lower = b"\r\n" + lines.lower()
    return lines, lower, special_lines(tuple(SPECIAL.findall(lower)))


@given(HEADS)
def test_wanted_headers_are_read_as_where_nobody_knows_which_there_are(pairs):
    lines, lower, special = of(pairs)
    joined = ProxyRequest(b"GET", b"a", b"/", lines, lower, None).header
    assert special.reading(WANTED)(lines, lower, joined, ()) == WANTED.of_lines(lines, lower, joined)
    assert special.readings[WANTED] is not None


@pytest.mark.parametrize("spelled", [str.lower, str.title, str.upper])
def test_headers_of_telemetry_are_read_one_behind_the_other_where_they_are_usual(spelled):
    names = ["Host", "X-User-Agent", "User-Agent", "Accept", "traceparent", "X-Request-Id", "x-other"]
    lines, lower, special = of([(spelled(name), f" {name} \t") for name in names])
    told = WantedHeaders(("x-request-id", "traceparent", "tracestate", "user-agent", "x-forwarded-for"))
    expected = 0b01011, b"X-Request-Id", b"traceparent", b"", b"User-Agent", b""
    looked = [] if spelled is not str.upper else [lower]

    class Lower(bytes):
        def find(self, *_):
            raise AssertionError("it is not looked for")

    assert special.reading(told)(lines, looked[0] if looked else Lower(), lambda _name: None, ()) == expected


def test_a_list_of_many_headers_is_looked_for_one_by_one():
    names = ("user-agent", *[f"x-{n}" for n in range(20)])
    lines, lower, special = of([("Host", "a"), ("user-agent", "b"), ("x-7", "c")])
    read = special.reading(WantedHeaders(names))(lines, lower, lambda _name: None, ())
    assert read == (0b100000001, b"b", *[b"c" if n == 7 else b"" for n in range(20)])


def test_who_repeats_a_header_gets_no_function_of_its_own():
    *_, twice = of([("traceparent", "a")] * 2)
    *_, often = of([("Traceparent", "a")] * 5)
    assert twice.reading(WANTED) is often.reading(WANTED)
    *_, once = of([("traceparent", "a")])
    assert once.reading(WANTED) is not twice.reading(WANTED)


def test_a_request_id_that_a_proxy_has_added_is_found():
    lines, lower, special = of([("Host", "a")])
    more = b"x-request-id: 7\r\n"
    assert special.counted("x-request-id") is None
    assert special.reading(WANTED)(lines + more, lower + more, lambda _name: None, ())[:2] == (1, b"7")


@given(HEADS, st.sampled_from(ForwardClientCert), st.sampled_from([None, b"Hash=1"]), st.booleans())
def test_what_says_nothing_of_proxies_gets_what_a_sidecar_adds_and_loses_nothing(pairs, mode, mine, metadata):
    lines, lower, special = of(pairs)
    proto = proto_line(mine is not None)
    made = at_the_sidecar(proto, mode, mine, metadata)
    if special.unproxied:
        expected = inbound_lines(lines, lower, proto, mode, mine, metadata)
        assert (lines + proto + made.added, lower + proto + made.lower) == expected


@pytest.mark.parametrize("line", [b"x-envoy-", b"x-forwarded-proto:", *CLIENT_CERTS])
def test_what_proxies_tell_each_other_is_seen_however_it_is_spelled(line):
    assert SpecialLines((b"host:",)).unproxied
    assert SPECIAL.findall(b"\r\n" + line) == [line]
    assert not SpecialLines((b"host:", line)).unproxied


@pytest.mark.parametrize(
    ("found", "usual", "kept"),
    [
        ((b"host:",), True, False),
        ((b"host:", b"cookie:", b"user-agent:"), True, False),
        ((b"host:", b"connection:"), False, True),
        ((b"host:", b"connection:", b"connection:"), False, False),
        ((b"host:", b"connection:", b"te:"), False, False),
        ((b"host:", b"host:"), False, False),
        ((), False, False),
        ((b"host:", b"content-length:"), False, False),
        ((b"host:", b"upgrade:", b"connection:"), False, False),
        ((b"host:", b"transfer-encoding:"), False, False),
    ],
)
def test_usual_heads_ask_for_nothing_but_that_their_connection_be_kept(found, usual, kept):
    special = SpecialLines(found)
    assert (special.usual, special.kept is not None) == (usual, kept)
    if special.kept is not None:
        assert special.kept == tuple(each for each in found if each != b"connection:")


def test_who_hurries_and_what_may_be_grpc_is_known():
    assert [SpecialLines((b"host:", each)).hurries for each in (b"x-request-deadline:", b"grpc-timeout:", b"te:")] == [
        *(True, True),
        False,
    ]
    assert SpecialLines((b"content-type: application/grpc",)).grpc is None
    assert SpecialLines((b"host:",)).grpc is False


def test_strangers_decide_neither_how_many_are_remembered_nor_how_long_they_are(monkeypatch):
    monkeypatch.setattr(module, "MOST_KNOWN", 2)
    KNOWN.clear()
    long = (b"cookie:",) * 100
    assert special_lines(long) == long
    assert long not in KNOWN
    for each in ((b"host:",), (b"te:",), (b"cookie:",)):
        assert special_lines(each) is special_lines(each)
    assert len(KNOWN) <= 2


def test_what_reads_headers_is_not_kept_without_end():
    lines = special_lines((b"host:", b"user-agent:"))
    for n in range(MOST_READINGS + 3):
        wanted = WantedHeaders(("user-agent", f"x-{n}"))
        assert lines.reading(wanted) is lines.readings[wanted]
        assert len(lines.readings) <= MOST_READINGS

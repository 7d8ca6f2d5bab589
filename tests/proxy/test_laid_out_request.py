"""A request that is known by what it has in common with others says and becomes what one that was looked through does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.engine.wanted_headers import WantedHeaders
from meshlib.proxy.laid_out_request import laid_out
from meshlib.proxy.request import ProxyRequest
from meshlib.transport.protocol.head_layout import HeadLayout
from meshlib.transport.protocol.special_lines import SPECIAL, SpecialLines
from tests.support.told_requests import CERT, CHANGES, TRACE, served, told, traced

PROTO = b"x-forwarded-proto: http\r\n"
NAMES = st.sampled_from(["X-A", "x-a", "User-Agent", "traceparent", "X-Request-Id", "Cookie"])
VALUES = st.sampled_from(["", "a", " b ", "\tc\xe4 d", TRACE])
LINES = st.lists(st.tuples(NAMES, VALUES), max_size=5)


def both(lines, target=b"/p?q=1", method=b"GET"):
    """As it was known, and as it would be looked through."""
    text = b"".join(
        [b"%b:%b\r\n" % (name.encode(), value.encode("latin-1")) for name, value in [("Host", " a:80"), *lines]]
    )
    special = SpecialLines(SPECIAL.findall(b"\r\n" + text.lower()))
    layout = HeadLayout(method, (b"Host", *(name.encode() for name, _ in lines)), special)
    found = layout.match(b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, text))
    assert found is not None
    sent = text + PROTO
    return (
        laid_out(layout, found, "a:80", sent, 1),
        ProxyRequest(method, b"a:80", target, sent, b"\r\n" + sent.lower(), None, "http", special, False),
    )


@given(
    LINES,
    st.sampled_from([b"/", b"/p?q=1"]),
    st.sampled_from([b"GET", b"OPTIONS"]),
    st.lists(st.sampled_from(CHANGES), max_size=3),
    st.booleans(),
)
def test_it_is_what_it_would_be_otherwise_and_so_it_is_when_it_was_changed(lines, target, method, changes, looks):
    known, looked_through = both(lines, target, method)
    for change in changes:
        if looks:  # what is found out for who asks is kept
            assert told(known) == told(looked_through)
        for request in (known, looked_through):
            change(request)
    assert told(known) == told(looked_through)
    assert told(known.shadow()) == told(looked_through.shadow())


def test_the_traceparent_of_a_span_is_found_in_place_of_the_one_that_came():
    known, looked_through = both([("User-Agent", " a"), ("traceparent", f" {TRACE}")])
    for request in (known, looked_through):
        traced(request)
    assert known.header("traceparent") == TRACE.replace("0af", "1af")
    assert told(known) == told(looked_through)


def test_nothing_is_looked_for_on_its_way_to_an_application_that_writes_down_and_traces_it():
    known, looked_through = both([("User-Agent", " a "), ("Traceparent", f"\t{TRACE} "), ("x-request-id", "7")])
    for request in (known, looked_through):
        request.to_application_with(CERT, CERT.lower())
        traced(request)
    wanted = WantedHeaders(("user-agent", "x-request-id", "host", "x-none"))
    assert served(known).values_of(wanted) == served(looked_through).values_of(wanted) == (7, b"a", b"7", b"a:80", b"")
    assert known.head_bytes() == looked_through.head_bytes()
    assert known.encoded(1) == looked_through.encoded(1)
    assert known._lower is None
    assert told(known) == told(looked_through)


@given(LINES)
def test_its_lines_in_lower_case_are_there_for_who_asks(lines):
    known, looked_through = both(lines)
    assert known._lower is None
    assert known.lower == looked_through.lower


@pytest.mark.parametrize("name", ["user-agent", "host", "x-none"])
def test_a_header_that_is_known_to_be_there_or_not_is_not_looked_for(name):
    known, looked_through = both([("User-Agent", " a")])
    assert known.header(name) == looked_through.header(name)
    assert known._lower is None


def test_an_id_that_was_added_is_a_line_more():
    known, _ = both([])
    layout, found = known._layout, known._found
    added = known.lines + b"x-request-id: 7\r\n"
    twice = laid_out(layout, found, "a:80", added, 2)
    assert twice.sent_bytes() == known.sent_bytes() + len("x-request-id7")
    assert (twice.header("x-request-id"), known.header("x-request-id")) == ("7", None)

"""A request that is known by what it has in common with others says and becomes what one that was looked through does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.engine.wanted_headers import WantedHeaders
from meshlib.proxy.inbound_request import ServedRequest
from meshlib.proxy.laid_out_request import laid_out
from meshlib.proxy.request import ProxyRequest
from meshlib.transport.protocol.head_layout import HeadLayout
from meshlib.transport.protocol.special_lines import SPECIAL, SpecialLines

PROTO = b"x-forwarded-proto: http\r\n"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CERT = b"X-Forwarded-Client-Cert: By=spiffe://a;Hash=1\r\n"
WANTED = WantedHeaders(("x-a", "user-agent", "traceparent", "x-forwarded-proto", "x-request-id", "x-none"))
SEEN = [WANTED, WantedHeaders(("user-agent", "x-forwarded-client-cert", "x-a", "host")), WantedHeaders(("host",))]
NAMES = st.sampled_from(["X-A", "x-a", "User-Agent", "traceparent", "X-Request-Id", "Cookie"])
VALUES = st.sampled_from(["", "a", " b ", "\tc\xe4 d", TRACE])
LINES = st.lists(st.tuples(NAMES, VALUES), max_size=5)
ASKED = ("x-a", "user-agent", "traceparent", "x-request-id", "cookie", "host", "x-forwarded-proto", "x-none", "")


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


def told(request):
    """All that is asked of one."""
    return (
        *(request.method, request.verb, request.target, request.path, request.query, request.full_path),
        *(request.authority, request.dialled, request.scheme, request.protocol, request.body, request.version),
        *(request.lines, request.special, request.has_envoy_headers, request.one_message),
        *[request.header(name) for name in ASKED],
        *[request.header_values(name) for name in ASKED],
        *[request.sent_header(name) for name in ASKED],
        *(request.values_of(WANTED), request.sent_values(WANTED), request.head_bytes(), request.sent_bytes()),
        *[served(request).values_of(wanted) for wanted in SEEN],
        *(request.encoded(1), request.encoded(2), list(request.attempt_headers(1)), list(request.headers)),
    )


def served(request):
    return ServedRequest(request, "10.0.0.7:5", "10.0.0.1", 80, "", False)


def nothing(_request):
    pass


def traced(request):
    if TRACE in (request.header("traceparent") or "").split(","):
        request.traced_by(TRACE.replace("0af", "1af").encode(), TRACE.encode())


def changed(request):
    request.headers = [*request.count_first(), (b"x-a", b"of a rule")]


CHANGES = [
    nothing,
    traced,
    changed,
    lambda request: request.relined(b"Host: a:80\r\nX-A: 9\r\n", b"\r\nhost: a:80\r\nx-a: 9\r\n"),
    lambda request: request.retraced((b"traceparent", b"x-a"), b"traceparent: 00-1\r\n"),
    lambda request: request.retarget(b"/elsewhere?x"),
    lambda request: request.set_deadline("x-request-deadline", 1.5),
    lambda request: request.to_application(b"Host: a\r\nX-A: 3\r\n", b"\r\nhost: a\r\nx-a: 3\r\n"),
    lambda request: request.to_application_with(CERT, CERT.lower()),
    lambda request: request.to_application_with(b"", b""),
    lambda request: setattr(request, "counts", False),
    lambda request: request.count_first(),
]


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

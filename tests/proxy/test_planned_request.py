"""A request over HTTP/2 whose names were met before says and becomes what one that was read header by header does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.proxy.http2_request import Http2Request
from meshlib.proxy.planned_request import planned
from meshlib.transport.protocol import http2_request
from meshlib.transport.protocol.http1_request import SPECIAL
from meshlib.transport.protocol.http2_codec import SecretHeader
from meshlib.transport.protocol.http2_request import RequestHead, _one_by_one, _plan
from tests.support.told_requests import CHANGES, TRACE, told, traced

PROTO = (b"x-forwarded-proto", b"http")
ID = (b"x-request-id", b"7")
NAMES = st.sampled_from(["x-a", "user-agent", "traceparent", "authorization", "content-type"])
VALUES = st.sampled_from(["", "a", "c\xe4 d", TRACE, "application/grpc", "Application/gRPC+proto"])
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=5)


@pytest.fixture(autouse=True)
def _shortcuts(monkeypatch):
    monkeypatch.setattr(http2_request, "PLAIN", False)


def heads(fields, target=b"/p?q=1", method=b"GET") -> tuple[RequestHead, RequestHead]:
    """As its plan reads it, and header by header."""
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in fields]
    pseudo = [(b":method", method), (b":scheme", b"http"), (b":path", target), (b":authority", b"a:80")]
    return http2_request.read_head((*pseudo, *pairs)), _one_by_one((*pseudo, *pairs), False)


def both(fields, target=b"/p?q=1", method=b"GET", added=(ID, PROTO), body=None):
    """The requests of the two, with the same headers added."""
    head, read = heads(fields, target, method)
    assert head.plan is not None
    size = sum(len(name + value) for name, value in added)
    lines = read.lines + b"".join(name + b": " + value + b"\r\n" for name, value in added)
    lower = b"\r\n" + lines.lower()
    return (
        planned(head, head.plan, target, added, size, body),
        Http2Request(
            method, b"a:80", target, [*read.fields, *added], lines, lower, body, set(SPECIAL.findall(read.lower)), None
        ),
    )


ADDED = st.sampled_from([(), (ID,), (PROTO,), (ID, PROTO)])
TARGETS = st.sampled_from([b"/", b"/p?q=1", b"/\xe4"])
BODIES = st.sampled_from([None, b"", b"\0\0\0\0\1x"])


@given(FIELDS.filter(lambda fields: [name for name, _ in fields].count("content-type") < 2), TARGETS, ADDED, BODIES)
def test_it_is_what_it_would_be_otherwise(fields, target, added, body):
    known, read = both(fields, target, b"POST", added, body)
    for attempt in (1, 2):
        assert known.http2_head(attempt, b"https") == read.http2_head(attempt, b"https")
    assert known._framed is read._framed
    assert (known.sent_bytes(), known.head_bytes()) == (read.sent_bytes(), read.head_bytes())
    assert set(known.special) == set(read.special)
    known.special = read.special
    assert told(known) == told(read)


@given(FIELDS.filter(lambda fields: [name for name, _ in fields].count("content-type") < 2), st.sampled_from(CHANGES))
def test_and_so_it_is_when_it_was_changed(fields, change):
    known, read = both(fields)
    known.special = read.special
    for request in (known, read):
        change(request)
    assert told(known) == told(read)
    assert told(known.shadow()) == told(read.shadow())


def test_what_has_come_with_other_lines_since_is_not_sent_as_it_came():
    known, _ = both([("traceparent", TRACE)])
    traced(known)
    assert known.http2_head(1, b"http") is None
    known, _ = both([])
    known.headers = [(b"host", b"other")]
    assert known.http2_head(1, b"http") is None


@pytest.mark.parametrize(
    ("name", "value"), [("x-a", "1"), ("host", "a:80"), ("x-none", None), ("", None), ("x-forwarded-for", None)]
)
def test_a_header_is_found_without_making_its_lines(name, value):
    known, _ = both([("x-a", "1"), ("user-agent", "b")])
    assert known.header(name) == value
    assert known.head_bytes()
    assert known.http2_head(1, b"http")
    assert (known._lower, known._came) == (None, None)


@pytest.mark.parametrize("target", [b"/", b"/p?", b"/p?q=1", b"/\xe4?a?b"])
@pytest.mark.parametrize("first", ["full_path", "path", "query"])
def test_its_path_is_made_text_for_who_asks_first(first, target):
    known, read = both([], target)
    known.http2_head(1, b"http")
    assert known._text is None
    for name in (first, "full_path", "path", "query"):
        assert getattr(known, name) == getattr(read, name)
    known.target = b"/rewritten"
    assert (known.full_path, known.path, known.query) == (read.full_path, read.path, read.query)
    for request in (known, read):
        request.retarget(b"/other?x=\xe4")
        assert (request.full_path, request.path, request.query) == ("/other?x=\xe4", "/other", "x=\xe4")
    known.path, known.query = "/a", "b"
    assert (known.full_path, known.path, known.query) == ("/other?x=\xe4", "/a", "b")


def test_headers_that_were_added_or_came_twice_are_found_too():
    known, _ = both([("x-a", "1"), ("x-a", "2")])
    found = (known.header("x-a"), known.header("x-request-id"), known.header("x-forwarded-proto"))
    assert found == ("1,2", "7", "http")
    without, _ = both([], added=())
    assert without.header("x-request-id") is None


def test_secrets_stay_out_of_the_compression_tables():
    head = both([("x-a", "1"), ("authorization", "Bearer x")])[0].http2_head(1, b"http")
    assert head is not None
    assert [pair for pair in head if type(pair) is SecretHeader] == [(b"authorization", b"Bearer x")]


def test_the_names_of_the_last_head_are_not_looked_up_again():
    heads([("x-a", "1")])
    looked_up = _plan.cache_info()
    head, _ = heads([("x-a", "2")])
    assert _plan.cache_info() == looked_up
    assert head.lines == b"host: a:80\r\nx-a: 2\r\n"
    other, _ = heads([("x-b", "2")])
    assert other.lines == b"host: a:80\r\nx-b: 2\r\n"

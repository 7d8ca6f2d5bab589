"""A request over its bytes, as policies of servers read and change it, and as it goes to the application."""

from __future__ import annotations

import pytest

from meshlib.engine.wanted_headers import WantedHeaders
from meshlib.policy.ext_authz import Change
from meshlib.proxy.inbound_request import ServedRequest
from meshlib.proxy.request import ProxyRequest

LINES = b"Host: reviews:9080\r\nX-Two: a\r\nx-two: b\r\nAccept: x\r\n"


def request(lines: bytes = LINES, target: bytes = b"/a/b?c=d", body: bytes | None = None) -> ServedRequest:
    sent = ProxyRequest(b"GET", b"reviews:9080", target, lines, b"\r\n" + lines.lower(), body)
    sent.to_application(lines, b"\r\n" + lines.lower())
    return ServedRequest(sent, "10.0.0.7:4711", "10.0.0.1", 9080, "outbound_.9080_._.reviews", True)


def test_policies_see_the_request_and_its_connection():
    made = request()
    assert (made.method, made.path, made.query, made.full_path) == ("GET", "/a/b", "c=d", "/a/b?c=d")
    assert (made.authority, made.host_known, made.scheme) == ("reviews:9080", True, "https")
    assert (made.source_ip, made.remote_ip, made.local_ip, made.port) == ("10.0.0.7", "10.0.0.7", "10.0.0.1", 9080)
    assert (made.protocol, made.http2, made.principal, made.mutual) == ("http", False, "", False)


def test_headers_are_found_by_their_name():
    made = request()
    assert (made.header("accept"), made.header("x-two"), made.header("none")) == ("x", "a,b", None)
    assert made.header_values("x-two") == ["a", "b"]
    assert made.header_values("accept") is None
    assert made.header_lists()["x-two"] == ["a", "b"]


def test_what_checks_change_the_next_check_and_the_application_see():
    made = request()
    made.put("x-two", b"c")
    made.add("x-new", b"1")
    made.take_away("accept")
    made.retarget("e=f")
    assert (made.header("x-two"), made.header("x-new"), made.header("accept")) == ("c", "1", None)
    sent = made.for_the_application()
    assert sent.headers == [(b"Host", b"reviews:9080"), (b"x-two", b"c"), (b"x-new", b"1")]
    assert sent.target == b"/a/b?e=f"


def test_a_request_that_nobody_changes_goes_on_as_the_bytes_that_came():
    sent = request().for_the_application()
    assert sent.attempt_headers(3).lines == LINES
    assert sent.count_first() == sent.headers
    assert sent.scheme == "http"


def test_the_application_is_told_the_trace_that_its_request_goes_on_in():
    made = request(b"traceparent: 1\r\nHost: reviews:9080\r\nTraceparent: 2\r\nx-traceparent: 3\r\nTraceState: 4\r\n")
    made.goes_on_in((b"traceparent", b"b3"), [(b"traceparent", b"NEW")])
    assert (made.header("traceparent"), made.header("tracestate"), made.header("x-traceparent")) == ("NEW", "4", "3")
    lines = b"Host: reviews:9080\r\nx-traceparent: 3\r\nTraceState: 4\r\ntraceparent: NEW\r\n"
    sent = made.for_the_application()
    assert sent.attempt_headers(1).lines == lines
    assert sent.lower == b"\r\n" + lines.lower()
    made.put("x-request-id", b"1")
    assert made.header("traceparent") == "NEW"
    assert (b"traceparent", b"NEW") in made.for_the_application().headers


def test_the_number_of_the_attempt_that_came_goes_on():
    lines = LINES + b"x-envoy-attempt-count: 7\r\n"
    assert request(lines).for_the_application().attempt_headers(1).lines == lines


def test_a_response_gets_what_checks_want_it_to():
    made = request()
    assert not made.changes_response
    made.for_caller.append((b"x-limit", b"1"))
    made.tell_caller((Change("x-a", b"2", "set"),))
    assert made.changes_response
    assert made.response_headers([(b"x-a", b"1")]) == [(b"x-limit", b"1"), (b"x-a", b"2")]


@pytest.mark.parametrize("body", [None, b"", b"abc"])
def test_its_head_is_as_long_as_its_names_and_values(body):
    pairs = sum(len(name) + len(value) for name, value in request().headers)
    assert request(body=body).header_bytes() == len("GET") + len("/a/b?c=d") + pairs


ADDED = b"x-forwarded-proto: https\r\nx-forwarded-client-cert: By=a\r\n"


@pytest.mark.parametrize(
    ("came", "goes"),
    [
        (LINES, LINES),
        (LINES, LINES + ADDED),
        (LINES + b"x-envoy-internal: true\r\n", LINES + ADDED),
        (LINES + b"content-type: application/grpc\r\n", LINES + b"content-type: application/grpc\r\n" + ADDED),
    ],
)
@pytest.mark.parametrize("body", [None, b"abc"])
def test_what_goes_to_the_application_is_what_it_would_be_of_its_bytes(came, goes, body):
    sized = b"" if body is None else b"content-length: 3\r\n"
    came, goes = sized + came, sized + goes
    client = ProxyRequest(b"POST", b"reviews:9080", b"/a?b=c", came, b"\r\n" + came.lower(), body)
    lower = b"\r\n" + goes.lower()
    client.to_application(goes, lower)
    read = ProxyRequest(b"POST", b"reviews:9080", b"/a?b=c", goes, lower, body)
    read.has_envoy_headers = read.counts = False
    for name in ProxyRequest.__slots__:
        if name not in ("_headers", "_received", "special"):
            assert getattr(client, name) == getattr(read, name), name
    assert client.headers == read.headers
    assert client.encoded(1) == client.encoded(2) == b"POST /a?b=c HTTP/1.1\r\n" + goes + b"\r\n" + (body or b"")


def seen(lower):
    """Lines, but of traceparent its name and length."""
    return [(len(line), b"traceparent:") if line.startswith(b"traceparent:") else line for line in lower.split(b"\r\n")]


@pytest.mark.parametrize(
    "lines",
    [
        b"Host: a\r\nTraceParent:\t1  \r\nAccept: x\r\n",
        b"Host: a\r\nTraceParent: old\r\nAccept: x\r\n",
        b"Host: a\r\nTraceParent:old\t\r\nAccept: x\r\n",
        b"Host: a\r\nTraceParent:old\r\nAccept: x\r\n",
        b"Host: a\r\nX-Copy: old\r\nTraceParent: old\r\nX-Too: old\r\n",
        b"TraceParent: old\r\nHost: a\r\n",
        b"traceparent: old\r\nHost: a\r\nX-Copy: old\r\n",
        *(
            b"Host: a\r\nx-%b: old\r\nX-Copy: %b: old\r\n%b: old\r\nX-Too: old\r\n" % (name, name, name)
            for name in (b"traceparent", b"Traceparent")
        ),
        b"traceparent: 1\r\nHost: a\r\ntraceparent: 2\r\n",
        b"Host: a\r\n",
    ],
)
def test_a_trace_goes_on_where_it_stood(lines):
    made, usual = request(lines), request(lines)
    made.traced_by(b"new", made.values_of(WantedHeaders(("traceparent",)))[1])
    usual.goes_on_in((b"traceparent",), [(b"traceparent", b"new")])
    assert made.header("traceparent") == "new"
    assert [made.header(name) for name in ("accept", "x-copy")] == [usual.header(name) for name in ("accept", "x-copy")]
    sent = made.for_the_application()
    # where a name stands in ``lower``, its value stands in ``lines``; that of traceparent is never read from ``lower``
    assert seen(sent.lower) == seen(b"\r\n" + sent.lines.lower())
    headers = [(name.lower(), value) for name, value in sent.headers]
    assert sorted(headers) == sorted((name.lower(), value) for name, value in usual.for_the_application().headers)


def test_what_one_has_looked_for_is_what_another_sees():
    made = request(b"Host: a\r\ntraceparent: 1\r\nX-Two: a\r\nx-two: b\r\n")
    first, second = (
        WantedHeaders(("traceparent", "x-two", "none")),
        WantedHeaders(("none", "x-two", "host", "traceparent")),
    )
    assert made.values_of(first) == (0b011, b"1", b"a,b", b"")
    made.traced_by(b"2", b"1")
    assert made.values_of(second) == (0b1110, b"", b"a,b", b"a", b"2")
    made.put("x-two", b"c")
    assert made.values_of(second) == (0b1110, b"", b"c", b"a", b"2")

"""A request of a client of the proxy, as policy sees it and as it goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.engine.wanted_headers import WantedHeaders
from meshlib.proxy.request import ProxyRequest
from meshlib.transport.protocol.raw_head import RawHead


def request_of(lines=b"Host: a\r\n", body=None, target=b"/p?q=1", method=b"GET"):
    return ProxyRequest(method, b"a:80", target, lines, b"\r\n" + lines.lower(), body)


def test_it_shows_what_its_client_has_sent():
    request = request_of(b"Host: a:80\r\nX-A:  1 \r\nx-a: 2\r\nX-Empty:\r\n")
    assert (request.method, request.authority, request.dialled, request.scheme) == ("GET", "a:80", "a:80", "http")
    assert (request.path, request.query, request.full_path) == ("/p", "q=1", "/p?q=1")
    assert (request.header("x-a"), request.header("x-empty"), request.header("x")) == ("1,2", "", None)
    assert (request.header_values("x-a"), request.header_values("host")) == (["1", "2"], None)
    assert request.headers == [(b"Host", b"a:80"), (b"X-A", b"1"), (b"x-a", b"2"), (b"X-Empty", b"")]


NAMES = st.sampled_from([b"X-A", b"x-a", b"X-Ab", b"Host", b"A"])
VALUES = st.binary(max_size=6).map(lambda value: value.translate(None, b"\r\n\0"))


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_a_header_is_found_as_in_the_list(pairs):
    request = request_of(b"".join(b"%b: %b\r\n" % pair for pair in pairs))
    for name in ("x-a", "x-ab", "host", "a", "b"):
        found = [value.strip(b" \t").decode("latin-1") for key, value in pairs if key.lower() == name.encode()]
        assert request.header(name) == (",".join(found) if found else None)
        assert request.header_values(name) == (found if len(found) > 1 else None)


def test_the_number_of_the_attempt_is_ours():
    request = request_of()
    assert isinstance(request.attempt_headers(2), RawHead)
    assert list(request.attempt_headers(2)) == [(b"Host", b"a"), (b"x-envoy-attempt-count", b"2")]
    told = request_of(b"Host: a\r\nX-Envoy-Attempt-Count: 7\r\n")
    assert list(told.attempt_headers(1)) == [(b"Host", b"a"), (b"x-envoy-attempt-count", b"1")]


def test_rules_change_what_is_sent_and_not_what_came():
    request = request_of(b"Host: a\r\nX-A: 1\r\n")
    request.headers = [*request.count_first(), (b"x-a", b"2")]
    assert (request.header("x-a"), request.sent_header("x-a")) == ("1", "1,2")
    assert request.attempt_headers(3)[2] == (b"x-envoy-attempt-count", b"3")
    request.set_deadline("x-envoy-expected-rq-timeout-ms", 1.5)
    assert request.sent_header("x-envoy-expected-rq-timeout-ms") == "1500"


@pytest.mark.parametrize(("content", "protocol"), [(b"application/grpc+proto", "grpc"), (b"text/plain", "http")])
def test_its_protocol_is_that_of_metrics(content, protocol):
    assert request_of(b"Content-Type: %b\r\n" % content).protocol == protocol


def test_its_size_is_that_of_its_parts():
    request = request_of(b"Host: a\r\nX-A: 12\r\n", b"body")
    assert request.sent_bytes() == len("Hosta") + len("X-A12") + len("GET") + len("/p?q=1") + 4
    request.headers = [(b"h", b"a")]
    assert request.sent_bytes() == 2 + len("GET") + len("/p?q=1") + 4


def test_a_mirror_has_its_own_host():
    shadow = request_of(b"Host: a:80\r\n").shadow()
    assert shadow.headers == [(b"Host", b"a-shadow:80")]


@pytest.mark.parametrize("body", [None, b"all"])
def test_what_is_all_here_can_be_sent_again(body):
    request = request_of(body=body)
    assert (request.replayable, request.whole, request.sent) == (True, True, True)


@pytest.mark.parametrize(
    ("content_type", "protocol"),
    [
        (b"application/grpc", "grpc"),
        (b"application/grpc+proto", "grpc"),
        (b"application/grpc;x=y", "grpc"),
        (b"application/grpc-web", "http"),
        (b"application/json", "http"),
    ],
)
def test_what_is_grpc_is_what_envoy_takes_for_it(content_type, protocol):
    lines = b"content-type: %b\r\n" % content_type
    assert ProxyRequest(b"POST", b"a", b"/", lines, b"\r\n" + lines, None).protocol == protocol


def test_only_requests_of_http2_are_written_as_http2_without_a_look():
    assert request_of().http2_head(1, b"http") is None


def test_several_values_are_found_in_bytes_as_one_by_one():
    lines = b"Host: a\r\nX-One:  1 \r\nx-two: a\xe9\r\nX-Two:\r\nX-Empty: \r\nx-on: 3\r\n"
    made = ProxyRequest(b"GET", b"a", b"/", lines, b"\r\n" + lines.lower(), None)
    wanted = WantedHeaders(("x-one", "none", "x-two", "x-empty", "host"))
    each = wanted.of_texts(map(made.header, wanted.names))
    assert made.values_of(wanted) == made.sent_values(wanted) == each == (0b11101, b"1", b"", b"a\xe9,", b"", b"a")
    made.headers = [(b"x-one", b"2")]
    assert made.sent_values(wanted) == (1, b"2", b"", b"", b"", b"")
    assert made.values_of(wanted) == each

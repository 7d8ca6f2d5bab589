"""httpx's request as policy sees it and as it is sent."""

from __future__ import annotations

import httpx
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.engine.wanted_headers import WantedHeaders
from meshlib.transport.httpx import request as known_requests
from meshlib.transport.httpx.filled import compare
from meshlib.transport.httpx.origins import BadUrl
from meshlib.transport.httpx.request import HttpxRequest
from meshlib.transport.protocol.heads_seen import HeadsSeen
from meshlib.transport.protocol.request_body import ReplayBody
from meshlib.transport.protocol.sent_head import SentHead
from meshlib.transport.protocol.shortcuts import PLAIN

for known in (httpx, httpx2):
    compare(known)  # finds out whether its headers are as known


@pytest.fixture(params=[httpx, httpx2], ids=lambda module: module.__name__)
def module(request):
    return request.param


def made(module, url: str = "http://reviews:9080/p?q=1", body=None, method: str = "GET", **given) -> HttpxRequest:
    return HttpxRequest(module.Request(method, url, **given), body)


def test_its_parts_are_wire_strings(module):
    request = made(module, "http://reviews:9080/caf%C3%A9?q=1#frag", method="PUT")
    assert (request.method, request.scheme, request.authority, request.dialled) == (
        "PUT",
        "http",
        "reviews:9080",
        "reviews:9080",
    )
    assert (request.path, request.query, request.full_path) == ("/caf%C3%A9", "q=1", "/caf%C3%A9?q=1")
    assert request.target == b"/caf%C3%A9?q=1"


def test_host_is_what_the_caller_says_and_the_url_is_what_is_dialled(module):
    request = made(module, headers={"X": "1", "Host": "other"})
    assert (request.authority, request.dialled) == ("other", "reviews:9080")
    bare = module.Request("GET", "http://reviews:9080/")
    del bare.headers["host"]
    assert HttpxRequest(bare, None).headers[0] == (b"Host", b"reviews:9080")


def test_headers_are_found_in_lower_case_and_joined_when_repeated(module):
    request = made(module, headers=[("X-A", "1"), ("x-a", "2"), ("X-B", "\xe9".encode())])
    assert (request.header("x-a"), request.header("x-b"), request.header("x-c")) == ("1,2", "\xc3\xa9", None)
    assert request.header_values("x-a") == ["1", "2"]
    once = made(module, headers={"X-A": "1"})
    assert (once.header_values("x-a"), once.header("x-a")) == (None, "1")


@pytest.mark.parametrize(
    ("name", "asks"), [("x-envoy-max-retries", True), ("X-Envoy-Retry-On", True), ("x-envoys", False)]
)
def test_whether_the_caller_asks_something_of_the_proxy(module, name, asks):
    assert made(module, headers={name: "1"}).has_envoy_headers is asks


def test_attempts_are_counted_and_the_first_count_stays_where_it_is(module):
    request = made(module, headers={"host": "a"})
    plain = request.headers
    assert request.attempt_headers(3) == [*plain, (b"x-envoy-attempt-count", b"3")]
    request.headers = [*request.count_first(), (b"added", b"1")]
    assert request.attempt_headers(1)[-2:] == [(b"x-envoy-attempt-count", b"1"), (b"added", b"1")]
    assert request.attempt_headers(2)[-2:] == [(b"x-envoy-attempt-count", b"2"), (b"added", b"1")]


def test_a_deadline_replaces_the_callers(module):
    request = made(module, headers={"X-Request-Deadline": "99999"})
    request.set_deadline("x-request-deadline", 1.5)
    assert [pair for pair in request.headers if b"deadline" in pair[0].lower()] == [(b"x-request-deadline", b"1500")]


def test_what_can_be_sent_again(module):
    assert [made(module, body=body).replayable for body in (None, b"abc")] == [True, True]
    body = ReplayBody(iter([b"a" * 9]), limit=8)
    streamed = made(module, body=body)
    assert (streamed.replayable, streamed.whole, streamed.sent) == (True, False, False)
    list(body)
    assert (streamed.replayable, streamed.whole, streamed.sent) == (False, True, True)


def test_a_copy_for_a_mirror_says_so_in_its_host_and_is_another_object(module):
    request = made(module, headers={"Host": "reviews:9080", "x": "1"})
    request.trace = object()
    copy = request.shadow()
    assert dict(copy.headers)[b"Host"] == b"reviews-shadow:9080"
    assert dict(request.headers)[b"Host"] == b"reviews:9080"
    assert (copy.trace, copy.path, copy.header("x")) == (None, request.path, "1")


def test_a_url_that_leads_nowhere_is_refused(module):
    with pytest.raises(BadUrl):
        made(module, "ftp://reviews/")


NAMES = ["Host", "X-A", "x-a", "x-envoy-max-retries", "Cookie", "Connection", "Content-Length", "Accept", "x-\xe9"]


@given(
    pairs=st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["", "1", "a,b", "\xe9", "close"])), max_size=5),
    body=st.sampled_from([None, b"abc"]),
)
def test_a_request_whose_headers_were_met_reads_and_is_sent_as_any(pairs, body):
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]

    def told(met: bool) -> list[object]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(known_requests, "_met", HeadsSeen())
            if not met:
                patch.setattr(known_requests, "_known", lambda headers: None)
            rows: list[object] = []
            for _ in range(3):  # the second and the third have been met
                request = HttpxRequest(httpx.Request("GET", "http://reviews:9080/", headers=raw), body)
                rows.append((request.authority, request.has_envoy_headers, request.headers, request.method))
                for name in (*NAMES, "absent"):
                    rows.append((request.header(name.lower()), request.header_values(name.lower())))
                rows.append([list(request.attempt_headers(attempt)) for attempt in (1, 2)])
                rows.append((request.shadow().headers, request.shadow().header("x-a")))
                request.set_deadline("x-left", 1.0)
                rows.append(list(request.attempt_headers(1)))
                request.headers = request.count_first()
                rows.append([list(request.attempt_headers(attempt)) for attempt in (1, 2)])
            return rows

    assert told(True) == told(False)


def test_values_of_several_headers_are_those_of_each(monkeypatch):
    """Of headers that came once, of such as were met, and of those that a rule has changed."""
    monkeypatch.setattr(known_requests, "_met", HeadsSeen())
    wanted = WantedHeaders(("x-a", "host", "absent"))
    for value, learns in (("1", False), ("1", True), ("2", True), ("2", True)):
        with monkeypatch.context() as patch:
            if not learns:
                patch.setattr(known_requests, "_known", lambda headers: None)
            request = made(httpx, headers=[("X-A", value), ("x-a", "e")])
        assert request.sent_values(wanted) == wanted.of_texts((f"{value},e", request.authority, None))
        assert request.alike is None or request.headers is request.alike.headers
        request.headers = [*request.headers, (b"x-a", b"more")]
        assert request.sent_values(wanted) == wanted.of_texts((f"{value},e,more", request.authority, None))
        assert request.alike is None or request.headers is not request.alike.headers


@pytest.mark.skipif(PLAIN, reason="MESHLIB_PLAIN=1: nothing is remembered")
def test_headers_that_were_met_are_made_out_once(monkeypatch):
    monkeypatch.setattr(known_requests, "_met", HeadsSeen())
    first, second = (made(httpx, headers={"x-met": "once"}) for _ in range(2))
    assert first.headers is second.headers
    assert first.attempt_headers(1) is second.attempt_headers(1)
    assert type(first.attempt_headers(1)) is SentHead
    secret = [made(httpx, headers={"authorization": "Bearer abc"}) for _ in range(2)]
    assert secret[0].headers is not secret[1].headers

"""Scripted HTTP servers: what they are told to do, seen by a client that passes every mesh by, and through one."""

from __future__ import annotations

import asyncio
import gzip
import threading

import httpx
import pytest

import meshlib
from meshlib.testing import FakeClock, assert_attempts, assert_split
from meshlib.testing.upstreams import Upstreams

REVIEWS = """
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {name: reviews}
    spec:
      hosts: [reviews]
      http:
      - route: [{destination: {host: reviews}}]
        timeout: 10s
        retries: {attempts: 2, perTryTimeout: 1s, retryOn: "5xx,reset,connect-failure"}
"""
URL = "http://reviews/"


@pytest.fixture
def plain():
    with httpx.Client() as client:
        yield client


@pytest.fixture(params=["threads", "asyncio"])
def call(request, mesh, upstreams):
    """``call()`` makes a call through a mesh of the upstreams; its response or its exception."""

    def sync(**options):
        with mesh(REVIEWS).client(**options) as client:
            try:
                return client.get(URL)
            except httpx.HTTPError as error:
                return error

    async def awaited(**options):
        async with mesh(REVIEWS).async_client(**options) as client:
            try:
                return await client.get(URL)
            except httpx.HTTPError as error:
                return error

    return sync if request.param == "threads" else lambda **options: asyncio.run(awaited(**options))


# -- the server -------------------------------------------------------------------------------------------------------


def test_it_responds_as_it_was_told_and_then_with_its_name(upstreams, plain):
    reviews = upstreams.http("reviews", "v1").respond(503, text="no").respond(json={"a": 1}, headers={"x-a": "b"})
    at = f"http://{reviews.address}/"
    first, second, third = (plain.get(at) for _ in range(3))
    assert (first.status_code, first.text) == (503, "no")
    assert (second.json(), second.headers["x-a"], second.headers["content-type"]) == ({"a": 1}, "b", "application/json")
    assert (third.status_code, third.text) == (200, "reviews/v1")
    assert reviews.left == 0


def test_several_at_once(upstreams, plain):
    reviews = upstreams.http("reviews").respond(418, times=2).respond_each(201, 202).always(204)
    statuses = [plain.get(f"http://{reviews.address}/").status_code for _ in range(6)]
    assert statuses == [418, 418, 201, 202, 204, 204]


def test_it_keeps_what_it_was_asked(upstreams, plain):
    reviews = upstreams.http("reviews")
    plain.post(f"http://{reviews.address}/a?b=c", json={"stars": 5}, headers=[("x-a", "1"), ("x-a", "2")])
    plain.put(f"http://{reviews.address}/", content=iter([b"in ", b"pieces"]))
    posted, put = reviews.requests
    assert (posted.method, posted.path, posted.json(), posted.header("X-A")) == ("POST", "/a?b=c", {"stars": 5}, "1, 2")
    assert (put.body, put.header("content-length")) == (b"in pieces", None)
    assert "stars" not in repr(posted)


def test_a_body_in_chunks_a_head_alone_and_none(upstreams, plain):
    reviews = upstreams.http("reviews").respond(chunks=[b"ab", b"c"]).respond(content=b"abc").respond(204)
    at = f"http://{reviews.address}/"
    with plain.stream("GET", at) as response:
        assert list(response.iter_raw()) in ([b"ab", b"c"], [b"abc"])
        assert response.headers["transfer-encoding"] == "chunked"
    head = plain.head(at)
    assert (head.content, head.headers["content-length"]) == (b"", "3")
    assert "content-length" not in plain.get(at).headers


def test_a_function_may_make_the_responses(upstreams, plain):
    reviews = upstreams.http("reviews").respond_with(lambda request: httpx.Response(404, text=request.path))
    assert plain.get(f"http://{reviews.address}/x").text == "/x"
    assert plain.get(f"http://{reviews.address}/y").status_code == 404


def test_what_such_a_function_encodes_is_sent_as_it_is(upstreams, plain):
    zipped = httpx.Response(200, content=gzip.compress(b"abc"), headers={"content-encoding": "gzip"})
    reviews = upstreams.http("reviews").respond_with(lambda request: zipped)
    assert plain.get(f"http://{reviews.address}/").text == "abc"


def test_what_such_a_function_raises_fails_the_test_and_its_request_gets_500(plain):
    made = Upstreams(FakeClock())
    reviews = made.http("reviews").respond_with(lambda request: httpx.Response(200 // 0))
    response = plain.get(f"http://{reviews.address}/")
    with pytest.raises(ZeroDivisionError):
        made.close()
    assert response.status_code == 500
    assert response.text.startswith("respond_with of reviews raised ZeroDivisionError: ")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"content": "a text"}, r"content takes bytes, not 'a text': a text is text=\.\.\."),
        ({"chunks": ["a"]}, "chunks takes bytes, not 'a'"),
        ({"text": "a", "json": 1}, "one body: text and json were given"),
        ({"status": "503"}, "'503' is not the status of a response"),
        ({"status": 100}, "100 is not the status of a response"),
        ({"headers": {"x-a": "☃"}}, "x-a: '☃' has characters that HTTP cannot send"),
        ({"headers": [("x-a", "b\r\nc: d")]}, "has a line end"),
    ],
)
def test_what_cannot_be_a_response_is_refused_where_it_is_said(upstreams, asked, why):
    with pytest.raises((TypeError, ValueError), match=why):
        upstreams.http("reviews").respond(**asked)


def test_a_connection_is_reset_or_closed_where_it_is_said(upstreams, plain):
    reviews = upstreams.http("reviews").reset().reset(after=2, content=b"abcd").partial_body(b"abcd", after=2)
    at = f"http://{reviews.address}/"
    with pytest.raises(httpx.ReadError):
        plain.get(at)
    got = []
    with pytest.raises(httpx.ReadError), plain.stream("GET", at) as response:
        got.extend(response.iter_raw())
    with pytest.raises(httpx.RemoteProtocolError), plain.stream("GET", at) as response:
        got.extend(response.iter_raw())
    assert got == [b"ab", b"ab"]
    assert plain.get(at).status_code == 200


def test_it_dies_and_is_revived_at_its_port(upstreams, plain):
    reviews = upstreams.http("reviews")
    at = f"http://{reviews.address}/"
    plain.get(at)
    reviews.stop()
    for _ in range(2):
        with pytest.raises(httpx.ConnectError):
            plain.get(at)
    reviews.start()
    assert plain.get(at).status_code == 200


def test_a_gate_holds_a_response(upstreams, plain):
    reviews = upstreams.http("reviews")
    gate, got = reviews.gate(), []
    reviews.respond(201, gate=gate)
    caller = threading.Thread(target=lambda: got.append(plain.get(f"http://{reviews.address}/").status_code))
    caller.start()
    reviews.wait_for_requests(1)
    assert got == []
    gate.open()
    caller.join(60)
    assert got == [201]


async def test_tasks_wait_for_requests_too(upstreams):
    reviews = upstreams.http("reviews")
    gate = reviews.gate()
    reviews.respond(201, gate=gate, times=2)
    async with httpx.AsyncClient() as client:
        calls = [asyncio.ensure_future(client.get(f"http://{reviews.address}/")) for _ in range(2)]
        await reviews.wait_for_requests_async(2)
        gate.open()
        assert [(await call).status_code for call in calls] == [201, 201]


def test_who_waits_for_requests_that_do_not_come_is_told_so(upstreams):
    with pytest.raises(TimeoutError, match=r"0 of 2 requests have arrived in 0 s: \[\]"):
        upstreams.http("reviews").wait_for_requests(2, seconds=0)


def test_what_is_not_http_is_refused(upstreams):
    import socket

    with socket.create_connection(("127.0.0.1", upstreams.http("reviews").port)) as raw:
        raw.sendall(b"nonsense\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400 ")


def test_a_caller_past_every_mesh_moves_the_fake_clock(upstreams, plain, fake_clock):
    reviews = upstreams.http("reviews").respond(delay=3600)
    before = fake_clock.monotonic()
    plain.get(f"http://{reviews.address}/")
    assert fake_clock.monotonic() == before + 3600


# -- through a mesh ---------------------------------------------------------------------------------------------------


def test_the_mesh_knows_where_it_is(upstreams, call):
    reviews = upstreams.http("reviews").respond(503)
    response = call()
    assert response.text == "reviews"
    assert_attempts(response, 2)
    assert [request.header("x-envoy-attempt-count") for request in reviews.requests] == ["1", "2"]
    assert [request.header("x-meshlib-attempt") for request in reviews.requests] == [None, None]


def test_a_delay_is_the_clocks(upstreams, call, fake_clock):
    upstreams.http("reviews").respond(delay=0.5)
    before = fake_clock.monotonic()
    assert_attempts(call(), 1)
    assert fake_clock.monotonic() == before + 0.5


def test_a_delay_beyond_the_timeout_is_a_timeout_at_once(upstreams, call, fake_clock):
    reviews = upstreams.http("reviews").respond(delay=60).respond(201)
    before = fake_clock.monotonic()
    response = call()
    assert [attempt.failure for attempt in response.extensions["mesh"].attempts] == ["timeout", ""]
    assert response.status_code == 201
    assert fake_clock.monotonic() < before + 1.2
    assert [request.abandoned for request in reviews.requests] == [True, False]


def test_a_delay_and_chaos_add_up(upstreams, call, chaos, fake_clock):
    upstreams.http("reviews").respond(delay=0.25)
    chaos.on("reviews").latency(0.5)
    before = fake_clock.monotonic()
    call()
    assert fake_clock.monotonic() == before + 0.75


def test_what_chaos_fails_is_no_request_and_takes_nothing_of_the_script(upstreams, call, chaos):
    reviews = upstreams.http("reviews").respond(201)
    chaos.on("reviews", nth=1).reset()
    assert call().status_code == 201
    assert len(reviews.requests) == 1


def test_resets_are_retried_and_a_dead_server_is_connected_to_when_it_is_back(upstreams, call):
    reviews = upstreams.http("reviews").reset()
    assert_attempts(call(), 2)
    reviews.stop()
    assert_attempts(call(), 3)
    reviews.start()
    assert_attempts(call(), 1)


def test_a_kept_connection_that_died_takes_no_step_of_the_script(upstreams, mesh):
    reviews = upstreams.http("reviews")
    with mesh(REVIEWS).client() as client:
        client.get(URL)
        reviews.stop().start().respond(201).respond(202)
        assert [client.get(URL).status_code for _ in range(2)] == [201, 202]


def test_the_body_of_a_response_through_the_mesh_is_cut(upstreams, call):
    upstreams.http("reviews").partial_body(b"abcd", after=2)
    assert isinstance(call(), meshlib.errors.UpstreamReset)


def test_a_canary_is_split_over_real_servers(upstreams, mesh):
    upstreams.http("reviews", "v1")
    upstreams.http("reviews", "v2")
    canary = """
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {name: reviews}
    spec:
      hosts: [reviews]
      http:
      - route:
        - {destination: {host: reviews, subset: v1}, weight: 90}
        - {destination: {host: reviews, subset: v2}, weight: 10}
    ---
    apiVersion: networking.istio.io/v1
    kind: DestinationRule
    metadata: {name: reviews}
    spec:
      host: reviews
      subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
    """
    with mesh(canary, seed=5).client() as client:
        calls = [client.get(URL) for _ in range(200)]
    assert_split(calls, {"v1": 0.9, "v2": 0.1})
    assert {call.text for call in calls} == {"reviews/v1", "reviews/v2"}

"""Requests of an application's connection that are laid out as those before them are taken at once, and come to the same."""

from __future__ import annotations

import json

import pytest

from meshlib.proxy import http1_laid_out
from meshlib.proxy.http1_laid_out import LOOKED_AT, Http1LaidOut
from meshlib.transport.protocol import head_layout
from meshlib.transport.protocol.http1_request import RequestReader
from tests.support.eventually import eventually, turned
from tests.support.inbound_policies import authorization_policy
from tests.support.inbound_proxy import InboundProxy
from tests.support.mesh_config import mesh_config
from tests.support.proxy import Proxy
from tests.support.resources import pod, service, to, virtual_service
from tests.support.servers import EchoServer
from tests.support.shortcuts import NEEDS_SHORTCUTS


@pytest.fixture(scope="module")
def server():
    with EchoServer("v1") as made:
        yield made


@pytest.fixture(scope="module")
def proxy(server):
    rule = virtual_service(
        "reviews",
        {"match": [{"headers": {"x-mine": {"exact": "none"}}}], "directResponse": {"status": 418}},
        {"route": [to("reviews")]},
    )
    with Proxy([service("reviews"), pod("reviews", "v1", server.port), rule]) as made:
        yield made


@pytest.fixture
def taken(monkeypatch):
    """The heads that were taken at once, by a process that knows none at first and learns what it meets."""
    monkeypatch.setattr(head_layout, "_layouts", {})
    monkeypatch.setattr(head_layout, "_met", {})
    monkeypatch.setattr(head_layout, "TIMES", 1)
    found = []
    takes = RequestReader.takes

    def told(self, data):
        done = takes(self, data)
        if done:
            found.append(data)
        return done

    monkeypatch.setattr(RequestReader, "takes", told)
    return found


def seen(response):
    return json.loads(response.body)


@NEEDS_SHORTCUTS
def test_the_next_request_of_a_kind_is_taken_at_once_and_comes_to_the_same(proxy, taken):
    with proxy.client() as client:
        first, second, third = (seen(client.get(f"/{n}", "GET", "reviews:9080", f"X-Mine: {n}")) for n in (1, 2, 3))
    assert [head.partition(b" HTTP")[0] for head in taken] == [b"GET /2", b"GET /3"]
    for number, found in ((1, first), (2, second), (3, third)):
        assert (found["path"], found["headers"]["x-mine"]) == (f"/{number}", str(number))
    ids = {found["headers"].pop("x-request-id") for found in (first, second, third)}
    assert len(ids) == 3
    assert first["headers"].keys() == second["headers"].keys()
    assert second["headers"]["x-forwarded-proto"] == "http"
    assert second["headers"]["x-envoy-attempt-count"] == "1"


@NEEDS_SHORTCUTS
def test_it_is_routed_by_what_it_says_itself(proxy, taken):
    with proxy.client() as client:
        found = [
            client.get("/", "GET", "reviews:9080", f"x-mine: {value}").status for value in ("a", "none", "b", " none ")
        ]
    assert found == [200, 418, 200, 418]
    assert len(taken) == 3


@NEEDS_SHORTCUTS
def test_another_host_is_looked_at_and_goes_where_it_says(proxy, taken):
    with proxy.client() as client:
        found = [client.get("/", "GET", host) for host in ("reviews:9080", "127.0.0.1:1", "reviews:9080", "a/b")]
    assert [each.status for each in found] == [200, 503, 200, 400]


@NEEDS_SHORTCUTS
@pytest.mark.parametrize("target", ["/a/./b", "/a//b", "/%61", "http://reviews:9080/a"])
def test_a_target_that_is_normalized_or_a_url_is_looked_at(proxy, taken, target):
    with proxy.client() as client:
        ways = [seen(client.get(target))["path"], seen(client.get("/first"))["path"], seen(client.get(target))["path"]]
    assert ways[0] == ways[2]
    assert target.encode() not in b"".join(taken)


@NEEDS_SHORTCUTS
def test_requests_of_other_kinds_between_them_change_nothing(proxy, taken):
    with proxy.client() as client:
        client.get("/1")
        client.send(b"POST /2 HTTP/1.1\r\nHost: reviews:9080\r\nContent-Length: 3\r\n\r\nabc")
        assert client.response().status == 200
        assert client.get("/3", "HEAD").status == 200
        assert seen(client.get("/4"))["path"] == "/4"
    assert [head.partition(b" HTTP")[0] for head in taken] == [b"GET /4"]


@NEEDS_SHORTCUTS
def test_heads_of_responses_to_head_have_no_body(proxy, taken):
    with proxy.client() as client:
        for _ in range(3):
            assert client.get("/", "HEAD").status == 200
        assert client.get("/").status == 200
    assert len(taken) == 2


@NEEDS_SHORTCUTS
def test_a_connection_learns_again_now_and_then(proxy, taken):
    with proxy.client() as client:
        for _ in range(LOOKED_AT):
            client.get("/", "GET", "reviews:9080", "X-Early: 1")
        for _ in range(3):
            client.get("/", "GET", "reviews:9080", "X-Late: 1")
    assert [b"X-Early" in head for head in taken] == [True] * (LOOKED_AT - 1) + [False] * 2


@NEEDS_SHORTCUTS
def test_requests_ahead_of_their_turn_have_it(proxy, taken):
    with proxy.client() as client:
        client.get("/1")
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: reviews:9080\r\n\r\n" % n for n in (2, 3, 4)))
        assert [seen(client.response())["path"] for _ in range(3)] == ["/2", "/3", "/4"]


@NEEDS_SHORTCUTS
def test_an_id_of_the_clients_goes_on_once(proxy, taken):
    with proxy.client() as client:
        for number in (1, 2):
            found = client.get("/", "GET", "reviews:9080", f"X-Request-Id: mine-{number}")
            assert seen(found)["headers"]["x-request-id"] == f"mine-{number}"
    (head,) = taken
    assert b"mine-2" in head


@NEEDS_SHORTCUTS
def test_no_id_is_made_from_when_the_mesh_says_so(server, taken):
    resources = [service("reviews"), pod("reviews", "v1", server.port)]
    off = mesh_config(defaultConfig={"proxyHeaders": {"requestId": {"disabled": True}}})
    with Proxy(resources) as proxy, proxy.client() as client:
        assert ["x-request-id" in seen(client.get("/"))["headers"] for _ in range(2)] == [True, True]
        proxy.mesh.apply([*resources, off])
        assert ["x-request-id" in seen(client.get("/"))["headers"] for _ in range(2)] == [False, False]
    assert len(taken) >= 2


@NEEDS_SHORTCUTS
def test_nothing_is_under_way_after_a_response_of_the_meshs_own(proxy, taken, monkeypatch):
    under_way, lost = [], Http1LaidOut.connection_lost

    def told(self, error):
        under_way.append(self._forwarding)
        lost(self, error)

    monkeypatch.setattr(Http1LaidOut, "connection_lost", told)
    with proxy.client() as client:
        for _ in range(3):
            assert client.get("/", "GET", "reviews:9080", "x-mine: none").status == 418
    assert eventually(lambda: under_way, seconds=60)
    assert under_way == [None]
    assert len(taken) == 2


@NEEDS_SHORTCUTS
def test_a_head_that_comes_in_pieces_is_matched_once(proxy, taken):
    with proxy.client() as client:
        client.get("/1")
        (layout,) = head_layout._layouts.values()
        matched, match = [], layout.match

        def told(data):
            matched.append(data)
            return match(data)

        layout.match = told
        for byte in b"GET /2 HTTP/1.1\r\nHost: reviews:9080\r\n\r\n":
            client.send(bytes([byte]))
            turned(proxy.loop)
        assert seen(client.response())["path"] == "/2"
    assert len(matched) == 1


@NEEDS_SHORTCUTS
def test_a_bug_is_a_500_that_is_told_of(proxy, taken, monkeypatch, caplog):
    with proxy.client() as client:
        client.get("/1")

        def broken(*_arguments):
            raise ZeroDivisionError

        monkeypatch.setattr(http1_laid_out, "laid_out", broken)
        assert client.get("/2").status == 500
        assert client.closed()
    assert "a fault of meshlib" in caplog.text


def test_nothing_is_learnt_where_shortcuts_are_turned_off(proxy, taken, monkeypatch):
    monkeypatch.setattr(http1_laid_out, "PLAIN", True)
    with proxy.client() as client:
        assert [client.get("/").status for _ in range(3)] == [200] * 3
    assert taken == []


@NEEDS_SHORTCUTS
@pytest.mark.parametrize("lines", [[], ["x-request-id: 1"]], ids=["an id is made", "with an id"])
def test_its_metrics_are_those_of_one_that_was_looked_through(server, taken, lines):
    sizes = {}
    for count in (0, 1):
        with Proxy([service("reviews"), pod("reviews", "v1", server.port)]) as proxy, proxy.client() as client:
            if count:
                client.get("/1", "GET", "reviews:9080", *lines)
            before = proxy.metric("istio_request_bytes_sum")
            client.get("/2", "GET", "reviews:9080", *lines)
            sizes[count] = proxy.metric("istio_request_bytes_sum") - before
    assert len(taken) == 1
    assert sizes[0] == sizes[1] > 0


# -- in front of an application -------------------------------------------------------------------------------------------


@NEEDS_SHORTCUTS
def test_requests_to_an_application_are_judged_by_what_they_say_themselves_and_told_the_same(server, taken):
    mary = {"when": [{"key": "request.headers[x-mine]", "values": ["mary"]}]}
    policy = authorization_policy("mary", "ALLOW", mary)
    with InboundProxy(server.port, policy) as proxy, proxy.client() as client:
        found = [client.get("/a", "GET", "reviews:9080", f"X-Mine: {n}") for n in ("mary", "mary", "eve", "mary ")]
    assert [each.status for each in found] == [200, 200, 403, 200]
    assert len(taken) == 3
    first, second, last = (seen(each) for each in found if each.status == 200)
    assert first["headers"].keys() == second["headers"].keys()
    assert first["headers"]["x-forwarded-proto"] == second["headers"]["x-forwarded-proto"] == "http"
    assert first["headers"]["x-request-id"] != second["headers"]["x-request-id"]
    assert (second["path"], last["headers"]["x-mine"].strip()) == ("/a", "mary")


@NEEDS_SHORTCUTS
def test_the_time_that_a_caller_has_left_counts_in_such_a_request_too(server, taken):
    with InboundProxy(server.port) as proxy, proxy.client() as client:
        found = [client.get("/", "GET", "reviews:9080", f"x-request-deadline: {left}") for left in (60, 0, 60)]
    assert [each.status for each in found] == [200, 408, 200]
    assert len(taken) == 2

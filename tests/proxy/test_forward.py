"""Requests forwarded by the mesh's rules: on connections that are there, in tasks, with bodies, retries, mirrors and faults."""

from __future__ import annotations

import json
import threading

import pytest

from tests.support import h2_server
from tests.support.eventually import eventually
from tests.support.h2_client import H2Client
from tests.support.h2_server import H2Server
from tests.support.mesh_config import mesh_config
from tests.support.proxy import Proxy
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.servers import EchoServer


@pytest.fixture
def server():
    with EchoServer("v1") as made:
        yield made


def mesh_of(server, *rules, **policy):
    found = [service("reviews"), pod("reviews", "v1", server.port)]
    if rules:
        found.append(virtual_service("reviews", *rules))
    if policy:
        found.append(destination_rule("reviews", **policy))
    return found


def seen(response):
    return json.loads(response.body)


def test_a_request_reaches_the_endpoint_of_its_host_with_what_a_sidecar_adds(server):
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        response = client.get("/reviews/1?a=b", "GET", "reviews:9080", "X-Mine: 1", "Connection: x-mine")
        headers = seen(response)["headers"]
    assert (response.status, seen(response)["path"]) == (200, "/reviews/1?a=b")
    assert response.header("x-envoy-upstream-service-time") is not None
    assert (headers["host"], headers["x-forwarded-proto"], headers["x-envoy-attempt-count"]) == (
        "reviews:9080",
        "http",
        "1",
    )
    assert len(headers["x-request-id"]) == 36
    assert "x-mine" not in headers
    assert "connection" not in headers


def test_a_clients_own_request_id_goes_on(server):
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        assert seen(client.get("/", "GET", "reviews:9080", "x-request-id: 7"))["headers"]["x-request-id"] == "7"


def test_the_number_of_the_attempt_is_not_the_clients_to_say(server):
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        found = seen(client.get("/", "GET", "reviews:9080", "x-envoy-attempt-count: 9"))
    assert found["headers"]["x-envoy-attempt-count"] == "1"


OFF = {"disabled": True}


def without(**fields):
    return mesh_config(defaultConfig={"proxyHeaders": fields})


@pytest.mark.parametrize("body", [b"", b"x" * 100_000])
def test_what_proxy_headers_turn_off_is_not_added_and_what_came_stays(server, body):
    off = without(requestId=OFF, attemptCount=OFF, envoyDebugHeaders=OFF)
    with Proxy([*mesh_of(server), off]) as proxy, proxy.client() as client, H2Client(proxy.port) as other:
        for number in range(2):  # on a new connection, and on one that is there
            client.send(
                b"POST /%d HTTP/1.1\r\nHost: reviews:9080\r\nContent-Length: %d\r\n\r\n%b" % (number, len(body), body)
            )
            response = client.response()
            headers = seen(response)["headers"]
            assert response.header("x-envoy-upstream-service-time") is None
            assert "x-request-id" not in headers
            assert "x-envoy-attempt-count" not in headers
        headers = seen(other.get("/", x_request_id="7"))["headers"]
        assert (headers["x-request-id"], headers.get("x-envoy-attempt-count")) == ("7", None)
        assert "x-request-id" not in seen(other.get("/"))["headers"]
        found = seen(client.get("/", "GET", "reviews:9080", "x-request-id: 8", "x-envoy-attempt-count: 3"))["headers"]
        assert (found["x-request-id"], found["x-envoy-attempt-count"]) == ("8", "3")


def test_over_http2_upstream_neither():
    ports = [{"name": "grpc", "port": 9080, "targetPort": "http"}]
    with H2Server(h2_server.answer_ok) as server:
        resources = [service("reviews", ports=ports), pod("reviews", "v1", server.port), without(attemptCount=OFF)]
        with Proxy(resources) as proxy, H2Client(proxy.port) as client:
            for _ in range(2):
                assert client.get("/").status == 200
        names = [[name for name, _ in request.headers] for request in server.requests]
    assert not [name for each in names for name in each if "attempt" in str(name)]


def test_a_response_of_our_own_does_not_say_that_it_is_envoys_either(server):
    pool = {"http": {"http2MaxRequests": 1}}
    held = threading.Event()
    server.behave = lambda handler: held.wait(20) and False
    resources = mesh_of(server, connectionPool=pool)
    try:
        with Proxy([*resources, without(envoyDebugHeaders=OFF)]) as proxy:
            with proxy.client() as client, proxy.client() as other:
                client.send(b"GET / HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
                assert eventually(lambda: upstream_calls(proxy) == 1)
                response = other.get("/")
                assert (response.status, response.header("x-envoy-overloaded")) == (503, None)
                held.set()
    finally:
        held.set()


def upstream_calls(proxy):
    live = proxy.mesh._core.live
    return sum(bound.state.active for bound in live.bound.values())


def test_one_connection_serves_many_requests_over_one_connection(server):
    clients = set()
    server.behave = lambda handler: clients.add(handler.client_address) or False
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        for number in range(5):
            assert seen(client.get(f"/{number}"))["path"] == f"/{number}"
        assert len(clients) == 1
        assert proxy.metric("istio_requests_total", response_code="200", reporter="source") == 5


def test_requests_that_a_client_sends_ahead_are_served_in_their_order(server):
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        for _ in range(2):
            client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: reviews:9080\r\n\r\n" % n for n in range(20)))
            assert [seen(client.response())["path"] for _ in range(20)] == [f"/{n}" for n in range(20)]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [1, 3000, 2_000_000])
def test_a_body_arrives_as_it_was_sent(server, size, chunked):
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    head = b"POST / HTTP/1.1\r\nHost: reviews:9080\r\n"
    server.behave = lambda handler: handler.answer(200, str(len(server.seen[-1]["body"])).encode()) or True
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        for _ in range(2):  # on a new connection, and on one that is there
            if chunked:
                pieces = [body[i : i + 70_000] for i in range(0, size, 70_000)]
                client.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
                client.send(b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n")
            else:
                client.send(head + b"Content-Length: %d\r\n\r\n%b" % (size, body))
            assert client.response().body == str(size).encode()
            assert server.seen[-1]["body"].encode("latin-1") == body


def test_a_body_that_is_waited_for_is_asked_for(server):
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: reviews:9080\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"ab")
        found = seen(client.response())
    assert (found["body"], found["headers"].get("expect")) == ("ab", None)


@pytest.mark.parametrize("size", [0, 10, 100_000, 3_000_000])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_response_arrives_as_it_was_sent(server, size, method):
    server.behave = lambda handler: handler.answer(200, b"x" * size, x_more="1") or True
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        for _ in range(3):
            response = client.get("/", method)
            assert (response.header("content-length"), response.header("x-more")) == (str(size), "1")
            assert response.body == (b"" if method == "HEAD" else b"x" * size)


def chunks(handler):
    handler.send_response(200)
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    for part in (b"one", b"two"):
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        handler.wfile.flush()
    handler.wfile.write(b"0\r\n\r\n")
    return True


def until_closed(handler):
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b"onetwo")
    handler.close_connection = True
    return True


@pytest.mark.parametrize("behave", [chunks, until_closed])
def test_a_response_without_a_length_comes_in_chunks(server, behave):
    server.behave = behave
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        for _ in range(3):
            response = client.get()
            assert (response.header("transfer-encoding"), response.body) == ("chunked", b"onetwo")


def test_a_failed_attempt_is_retried_as_the_rule_says(server):
    left = [503, 503]
    server.behave = lambda handler: bool(left) and (handler.answer(left.pop()) or True)
    rule = {"route": [to("reviews")], "retries": {"attempts": 2, "retryOn": "5xx", "backoff": "1ms"}}
    with Proxy(mesh_of(server, rule)) as proxy, proxy.client() as client:
        for _ in range(2):
            left[:] = [503, 503]
            found = seen(client.get("/a"))
            assert found["headers"]["x-envoy-attempt-count"] == "3"


def test_a_retry_sends_the_body_again(server):
    left = [503]
    server.behave = lambda handler: bool(left) and (handler.answer(left.pop()) or True)
    rule = {"route": [to("reviews")], "retries": {"attempts": 2, "retryOn": "5xx", "backoff": "1ms"}}
    body = b"y" * 200_000
    with Proxy(mesh_of(server, rule)) as proxy, proxy.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: reviews:9080\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        assert client.response().status == 200
    assert [len(each["body"]) for each in server.seen] == [len(body)] * 2


def test_a_server_that_closes_kept_connections_fails_no_request(server):
    def last(handler):
        handler.answer(200, b"bye")
        handler.close_connection = True
        return True

    server.behave = last
    with Proxy(mesh_of(server)) as proxy, proxy.client() as client:
        assert [client.get().body for _ in range(5)] == [b"bye"] * 5


def test_what_a_sidecar_says_of_hosts_and_endpoints_that_are_not_there(server):
    nowhere = pod("ratings", "v1", 1)
    found = [*mesh_of(server), service("ratings"), nowhere, service("details")]
    with Proxy(found) as proxy, proxy.client() as client:
        assert (client.get(host="details:9080").status, client.get(host="ratings:9080").status) == (503, 503)
        response = client.get(host="ratings:9080")
        assert response.body.startswith(b"upstream connect error or disconnect/reset before headers")
        assert client.get().status == 200  # the connection is none the worse


def test_a_late_response_is_a_504_and_its_connection_is_not_used_again(server):
    gone = threading.Event()
    server.behave = lambda handler: server.seen[-1]["path"] == "/late" and (gone.wait(20) or True)
    late = {"match": [{"uri": {"exact": "/late"}}], "route": [to("reviews")], "timeout": "200ms"}
    with Proxy(mesh_of(server, late, {"route": [to("reviews")]})) as proxy, proxy.client() as client:
        assert client.get("/").status == 200
        response = client.get("/late")
        assert (response.status, response.body) == (504, b"upstream request timeout")
        gone.set()
        assert seen(client.get("/after"))["path"] == "/after"


def test_a_response_that_is_cut_is_cut_for_the_client_too(server):
    def cut(handler):
        handler.send_response(200)
        handler.send_header("content-length", "100")
        handler.end_headers()
        handler.wfile.write(b"half")
        handler.close_connection = True
        return True

    server.behave = cut
    with Proxy(mesh_of(server)) as proxy:
        for _ in range(2):
            with proxy.client() as client, pytest.raises(ConnectionResetError):
                client.get()


def test_faults_and_direct_responses_need_no_upstream(server):
    fault = {"match": [{"uri": {"exact": "/fault"}}], "route": [to("reviews")],
             "fault": {"abort": {"httpStatus": 418, "percentage": {"value": 100}}}}  # fmt: skip
    direct = {"match": [{"uri": {"exact": "/direct"}}], "directResponse": {"status": 203, "body": {"string": "here"}}}
    with Proxy(mesh_of(server, fault, direct)) as proxy, proxy.client() as client:
        assert client.get("/fault").status == 418
        response = client.get("/direct")
        assert (response.status, response.body) == (203, b"here")
        assert client.get("/neither").status == 404
    assert server.seen == []


def test_a_mirror_gets_a_copy(server):
    arrived = threading.Event()
    with EchoServer("v2", lambda handler: arrived.set()) as mirror:
        rule = {"route": [to("reviews")], "mirror": {"host": "mirror"}}
        found = [*mesh_of(server, rule), service("mirror"), pod("mirror", "v1", mirror.port)]
        with Proxy(found) as proxy, proxy.client() as client:
            for _ in range(2):
                arrived.clear()
                assert client.get("/m").status == 200
                assert arrived.wait(20)
        assert mirror.seen[0]["headers"]["host"] == "reviews-shadow:9080"


def test_rules_change_requests_and_responses(server):
    changes = {"request": {"set": {"x-set": "1"}}, "response": {"add": {"x-add": "2"}}}
    rule = {"match": [{"uri": {"prefix": "/old"}, "headers": {"x-who": {"exact": "me"}}}], "rewrite": {"uri": "/new"},
            "route": [{**to("reviews"), "headers": changes}]}  # fmt: skip
    with Proxy(mesh_of(server, rule)) as proxy, proxy.client() as client:
        for _ in range(2):
            response = client.get("/old/1", "GET", "reviews:9080", "X-Who: me")
            assert (seen(response)["path"], seen(response)["headers"]["x-set"]) == ("/new/1", "1")
            assert response.header("x-add") == "2"


def test_a_client_that_goes_away_ends_its_request(server):
    begun, gone = threading.Event(), threading.Event()

    def wait(handler):
        begun.set()
        gone.wait(20)
        return False

    with Proxy(mesh_of(server)) as proxy:
        with proxy.client() as client:
            client.get()  # a connection to the upstream is there
            server.behave = wait
            client.send(b"GET / HTTP/1.1\r\nHost: reviews:9080\r\n\r\n")
            assert begun.wait(20)
            assert proxy.process.listener.connections == 1
        assert eventually(lambda: proxy.process.listener.connections == 0)
        gone.set()
        server.behave = None
        with proxy.client() as client:
            assert client.get().status == 200
        assert proxy.metric("istio_requests_total", response_flags="DC") == 1


@pytest.mark.parametrize("change", [{"add": {"content-length": "5"}}, {"set": {"content-length": "5"}}])
def test_what_a_rule_makes_of_a_request_that_cannot_be_sent_is_no_fault_of_an_upstream(server, change):
    rule = {"route": [to("reviews")], "headers": {"request": change}}
    eager = {"consecutive5xxErrors": 1, "consecutiveGatewayErrors": 1, "maxEjectionPercent": 100}
    with Proxy(mesh_of(server, rule, outlierDetection=eager)) as proxy, proxy.client() as client:
        found = [client.get() for _ in range(3)]
        assert [(each.status, each.body) for each in found] == [(503, b"invalid request")] * 3
    assert server.seen == []


@pytest.mark.parametrize("operations", [{"set": {"content-length": "0"}}, {"remove": ["content-length"]}])
def test_of_its_body_a_response_that_is_made_here_says_what_is_so(operations):
    """What is said too short would be read as the head of the next response."""
    rule = {"route": [to("reviews")], "headers": {"response": operations}}
    resources = [service("reviews"), pod("reviews", "v1", 1), virtual_service("reviews", rule)]
    with Proxy(resources) as proxy, proxy.client() as client:
        for _ in range(2):
            response = client.get()
            assert (response.status, response.body.startswith(b"upstream connect error")) == (503, True)
            assert response.header("content-length") == str(len(response.body))

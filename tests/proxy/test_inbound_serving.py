"""Requests that come to the application behind the proxy: what policies say of them, the way to it and back."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from types import SimpleNamespace

import pytest

from meshlib.engine.effects import Sleep
from meshlib.proxy import inbound_serving
from meshlib.proxy.inbound_serving import Serving
from meshlib.transport.runtimes.serving import Server
from tests.support.eventually import eventually
from tests.support.inbound_policies import authorization_policy, on_paths
from tests.support.inbound_proxy import SERVICE, InboundProxy
from tests.support.mesh_config import mesh_config
from tests.support.protection import protection
from tests.support.rate_limits import bucket, insert, local
from tests.support.servers import EchoServer, failing
from tests.support.tokens import issuer


@pytest.fixture
def app():
    with EchoServer("app") as made:
        yield made


def seen(response):
    return json.loads(response.body)


def envoy_filter(fault):
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "fault", "namespace": "default"},
        "spec": {
            "workloadSelector": {"labels": {"app": "reviews"}},
            "configPatches": [
                {
                    "applyTo": "HTTP_FILTER",
                    "match": {"context": "SIDECAR_INBOUND"},
                    "patch": {
                        "operation": "INSERT_BEFORE",
                        "value": {
                            "name": "envoy.filters.http.fault",
                            "typed_config": {
                                "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
                                **fault,
                            },
                        },
                    },
                }
            ],
        },
    }


# -- to the application and back ---------------------------------------------------------------------------------------


def test_a_request_reaches_the_application_with_what_a_sidecar_tells_it(app):
    with InboundProxy(app.port) as proxy, proxy.client() as client:
        response = client.get("/reviews/1?a=b", "GET", "reviews:9080", "X-Mine: 1", "x-envoy-attempt-count: 2")
        headers = seen(response)["headers"]
    assert (response.status, seen(response)["path"]) == (200, "/reviews/1?a=b")
    assert (headers["host"], headers["x-mine"], headers["x-forwarded-proto"]) == ("reviews:9080", "1", "http")
    assert headers["x-envoy-attempt-count"] == "2"
    assert len(headers["x-request-id"]) == 36
    assert response.header("server") == "istio-envoy"
    assert response.header("date")
    assert response.header("x-envoy-upstream-service-time") is not None


def test_requests_like_one_before_are_counted_and_remembered_as_that_one_was(app):
    policy = authorization_policy("some", "ALLOW", on_paths("/a", "/none"))
    app.behave = lambda handler: handler.path == "/none" and failing(404)(handler)
    with InboundProxy(app.port, policy) as proxy, proxy.client() as client:
        remembered = []
        for turn in range(4):
            if turn == 2:  # as an admin endpoint wants them
                proxy.mesh._telemetry_of_servers().remember = lambda call, _now, _trace: remembered.append(call.status)
            found = [client.get(path, "GET", "reviews:9080").status for path in ("/a", "/b", "/none")]
            assert found == [200, 403, 404]
        for status in ("200", "403", "404"):
            told = {"response_code": status, "reporter": "destination"}
            assert eventually(lambda told=told: proxy.metric("istio_requests_total", **told) == 4)
            assert proxy.metric("istio_request_duration_milliseconds_count", **told) == 4
            assert proxy.metric("istio_response_bytes_count", **told) == 4
        assert remembered == [200, 403, 404] * 2


def test_headers_of_responses_are_mesh_configs_to_say(app):
    off = {"disabled": True}
    mesh = mesh_config(defaultConfig={"proxyHeaders": {"server": off, "envoyDebugHeaders": off}})
    with InboundProxy(app.port, mesh) as proxy, proxy.client() as client:
        response = client.get()
    assert response.header("server").startswith("BaseHTTP")
    assert response.header("x-envoy-upstream-service-time") is None


def test_one_connection_to_the_application_serves_many_requests(app):
    clients = set()
    app.behave = lambda handler: clients.add(handler.client_address) or False
    with InboundProxy(app.port) as proxy, proxy.client() as client:
        assert [seen(client.get(f"/{number}"))["path"] for number in range(5)] == [f"/{number}" for number in range(5)]
        assert len(clients) == 1
        told = {"response_code": "200", "reporter": "destination"}
        assert eventually(lambda: proxy.metric("istio_requests_total", **told) == 5)
        assert proxy.metric("istio_requests_total", reporter="source") == 0


@pytest.mark.parametrize("size", [0, 1, 3000, 2_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_go_both_ways_in_whichever_framing(app, size, chunked):
    body = b"x" * size
    head = b"POST / HTTP/1.1\r\nHost: a\r\n"
    with InboundProxy(app.port) as proxy, proxy.client() as client:
        if chunked:
            client.send(head + b"transfer-encoding: chunked\r\n\r\n")
            client.send((b"%x\r\n%b\r\n" % (size, body) if size else b"") + b"0\r\n\r\n")
        else:
            client.send(head + b"content-length: %d\r\n\r\n" % size + body)
        assert len(seen(client.response())["body"]) == size
        assert client.get("/again").status == 200
        assert proxy.metric("istio_request_bytes_sum", reporter="destination") > size


def test_head_and_statuses_without_a_body_pass(app):
    with InboundProxy(app.port) as proxy, proxy.client() as client:
        assert client.get("/", "HEAD").body == b""
        app.behave = lambda handler: handler.answer(204) or True
        assert client.get("/").status == 204


def test_a_response_comes_piece_by_piece(app):
    more = threading.Event()

    def in_pieces(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        handler.wfile.flush()
        assert more.wait(20)
        handler.wfile.write(b"3\r\ntwo\r\n0\r\n\r\n")
        return True

    app.behave = in_pieces
    with InboundProxy(app.port) as proxy, proxy.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.head().status == 200
        assert client.until(b"one\r\n") == b"3\r\none\r\n"
        more.set()
        assert client.until(b"0\r\n\r\n") == b"3\r\ntwo\r\n0\r\n\r\n"


# -- an application in trouble ----------------------------------------------------------------------------------------------


def test_an_application_that_is_not_there_is_tried_three_times_and_then_a_503(app):
    app.stop()
    with InboundProxy(app.port) as proxy, proxy.client() as client:
        response = client.get()
        assert response.status == 503
        assert response.body.startswith(b"upstream connect error or disconnect/reset before headers. retried and")
        assert proxy.metric("istio_requests_total", response_code="503", response_flags="UF,URX") == 1


def test_a_request_that_the_application_may_have_seen_is_not_sent_again(app):
    def reset(handler):
        handler.connection.shutdown(socket.SHUT_RDWR)
        return True

    app.behave = reset
    with InboundProxy(app.port) as proxy, proxy.client() as client:
        response = client.get("/", "POST", "a", "content-length: 0")
        assert (response.status, len(app.seen)) == (503, 1)
        assert proxy.metric("istio_requests_total", response_code="503", response_flags="UC") == 1


def test_a_response_that_the_application_cuts_is_cut_for_the_client(app):
    def cut(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)
        return True

    app.behave = cut
    with InboundProxy(app.port) as proxy, proxy.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.head().status == 200
        with pytest.raises(ConnectionResetError):
            client.exactly(10)
        assert eventually(lambda: proxy.metric("istio_requests_total", response_code="200", response_flags="UC") == 1)


def test_there_is_no_timeout_but_the_callers_own(app):
    gone = threading.Event()

    def wait(handler):
        gone.wait(20)
        return False

    app.behave = wait
    with InboundProxy(app.port) as proxy:
        with proxy.client() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert eventually(lambda: app.seen)
        assert eventually(lambda: proxy.metric("istio_requests_total", response_code="0", response_flags="DC") == 1)
        gone.set()


# -- policies -----------------------------------------------------------------------------------------------------------------


def test_who_may_not_come_in_is_refused_and_the_application_hears_nothing(app):
    deny = authorization_policy("deny", "DENY", on_paths("/admin*"))
    with InboundProxy(app.port, deny) as proxy, proxy.client() as client:
        refused = client.get("/admin/1")
        assert (refused.status, refused.body) == (403, b"RBAC: access denied")
        assert refused.header("server") == "istio-envoy"
        assert client.get("/public").status == 200
        assert [request["path"] for request in app.seen] == ["/public"]
        assert proxy.metric("istio_requests_total", response_code="403", reporter="destination") == 1


def test_policies_name_the_applications_port_not_the_proxys(app):
    rule = {"to": [{"operation": {"ports": [str(app.port)]}}]}
    with InboundProxy(app.port, authorization_policy("p", "DENY", rule)) as proxy, proxy.client() as client:
        assert client.get().status == 403
    rule = {"to": [{"operation": {"ports": ["9080"]}}]}
    with (
        InboundProxy(app.port, authorization_policy("p", "DENY", rule), policy_port=9080) as proxy,
        proxy.client() as client,
    ):
        assert client.get().status == 403


def test_policies_judge_headers_as_the_application_gets_them(app):
    spoofed = {"when": [{"key": "request.headers[x-forwarded-client-cert]", "values": ["*"]}]}
    told = {"when": [{"key": "request.headers[x-forwarded-proto]", "values": ["http"]}]}
    for rule, status in ((spoofed, 200), (told, 403)):
        with InboundProxy(app.port, authorization_policy("p", "DENY", rule)) as proxy, proxy.client() as client:
            assert client.get("/", "GET", "a", "X-Forwarded-Client-Cert: URI=spiffe://td/admin").status == status


def test_who_the_caller_is_by_address_is_the_last_of_x_forwarded_for(app):
    blocked = authorization_policy("p", "DENY", {"from": [{"source": {"remoteIpBlocks": ["1.2.3.4"]}}]})
    with InboundProxy(app.port, blocked) as proxy, proxy.client() as client:
        assert client.get("/", "GET", "a", "X-Forwarded-For: 1.2.3.4, 5.6.7.8").status == 200
        assert client.get("/", "GET", "a", "X-Forwarded-For: 5.6.7.8, 1.2.3.4").status == 403
    peer = authorization_policy("p", "DENY", {"from": [{"source": {"ipBlocks": ["127.0.0.1"]}}]})
    with InboundProxy(app.port, peer) as proxy, proxy.client() as client:
        assert client.get().status == 403


def test_tokens_are_verified_and_their_payload_handed_on(app):
    issued = issuer("ES256")
    wanted = {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "jwt", "namespace": "default"},
        "spec": {
            "jwtRules": [
                {"issuer": "me", "jwks": issued.jwks(), "outputClaimToHeaders": [{"header": "x-sub", "claim": "sub"}]}
            ]
        },
    }
    needed = authorization_policy("jwt", "ALLOW", {"from": [{"source": {"requestPrincipals": ["me/ann"]}}]})
    token = issued.token({"iss": "me", "sub": "ann", "exp": 4_000_000_000})
    with InboundProxy(app.port, wanted, needed) as proxy, proxy.client() as client:
        assert client.get().status == 403
        assert client.get("/", "GET", "a", "authorization: Bearer rubbish").status == 401
        response = client.get("/", "GET", "a", f"authorization: Bearer {token}", "x-sub: forged")
        assert seen(response)["headers"]["x-sub"] == "ann"
        assert "authorization" not in seen(response)["headers"]


def test_faults_are_injected(app):
    abort = {"abort": {"http_status": 418, "percentage": {"numerator": 100, "denominator": "HUNDRED"}}}
    with InboundProxy(app.port, envoy_filter(abort)) as proxy, proxy.client() as client:
        assert (client.get().status, app.seen) == (418, [])
        assert proxy.metric("istio_requests_total", response_code="418", response_flags="FI") == 1


def test_a_deadline_that_has_passed_is_told_before_the_application_is_asked(app):
    with InboundProxy(app.port) as proxy, proxy.client() as client:
        assert (client.get("/", "GET", "a", "x-request-deadline: 0").status, app.seen) == (408, [])


# -- limits of bodies -------------------------------------------------------------------------------------------------------


def limited(size):
    return protection(maxBodyBytes=size)


def test_a_body_that_is_too_long_by_its_length_is_refused_unread(app):
    with InboundProxy(app.port, limited(100)) as proxy, proxy.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 101\r\n\r\n")
        assert (client.response().status, app.seen) == (413, [])
        assert client.closed()


def test_a_body_without_a_length_is_cut_off_where_it_is_too_long(app):
    with InboundProxy(app.port, limited(100)) as proxy, proxy.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n40\r\n" + b"x" * 64 + b"\r\n")
        client.send(b"40\r\n" + b"x" * 64 + b"\r\n0\r\n\r\n")
        assert (client.response().status, app.seen) == (413, [])
        assert proxy.metric("istio_requests_total", response_code="413") == 1


@pytest.mark.parametrize(("path", "first"), [("/a", b"HTTP/1.1 100 Continue"), ("/admin", b"HTTP/1.1 403 Forbidden")])
def test_a_client_that_waits_for_100_is_told_to_go_on_only_if_it_may_come_in(app, path, first):
    with (
        InboundProxy(app.port, authorization_policy("p", "DENY", on_paths("/admin"))) as proxy,
        proxy.client() as client,
    ):
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
        client.send(head.encode())
        assert client.until(b"\r\n") == first + b"\r\n"
        if path == "/a":
            client.until(b"\r\n")
            client.send(b"abc")
            assert seen(client.response())["body"] == "abc"


# -- reloads and clients that leave ---------------------------------------------------------------------------------------


def test_a_reload_counts_on_connections_that_are_open(app):
    with InboundProxy(app.port) as proxy, proxy.client() as client:
        assert client.get("/admin").status == 200
        proxy.mesh.apply([*SERVICE, authorization_policy("p", "DENY", on_paths("/admin"))])
        assert client.get("/admin").status == 403
        assert client.get("/a").status == 200


def test_clients_that_leave_at_any_moment_are_counted_once_each_and_break_nothing(app, caplog):
    with InboundProxy(app.port) as proxy:
        for number in range(40):
            with proxy.client() as client:
                client.send(b"POST /%d HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n" % number)
                client.send(b"3\r\nabc\r\n" + (b"0\r\n\r\n" if number % 2 else b""))
        assert eventually(lambda: proxy.metric("istio_requests_total", reporter="destination") == 40)
        with proxy.client() as client:
            assert client.get().status == 200
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


# -- upgrades ---------------------------------------------------------------------------------------------------------------


def upgraded(handler):
    handler.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello")
    handler.wfile.flush()
    handler.wfile.write(handler.rfile.read(4))
    handler.wfile.flush()
    handler.close_connection = True
    return True


def test_a_websocket_goes_through_and_is_one_request_until_it_ends(app):
    app.behave = upgraded
    with InboundProxy(app.port) as proxy, proxy.client() as client:
        client.send(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert client.head().status == 101
        assert client.exactly(5) == b"hello"
        assert proxy.metric("istio_requests_total", reporter="destination") == 0
        client.send(b"ping")
        assert client.exactly(4) == b"ping"
        assert client.closed()
        assert eventually(lambda: proxy.metric("istio_requests_total", response_code="101") == 1)


def test_policies_come_before_a_websocket(app):
    with InboundProxy(app.port, authorization_policy("p", "DENY", on_paths("/ws"))) as proxy, proxy.client() as client:
        client.send(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert client.response().status == 403


def test_no_other_protocol_is_spoken_instead(app):
    with InboundProxy(app.port) as proxy, proxy.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n")
        assert (client.response().status, app.seen) == (403, [])


# -- when it is closed ------------------------------------------------------------------------------------------------------


def test_nothing_comes_in_once_the_mesh_is_closed(app):
    with InboundProxy(app.port) as proxy, proxy.client() as client:
        assert client.get().status == 200
        proxy.mesh.close()
        assert (client.get().status, len(app.seen)) == (503, 1)


@pytest.mark.parametrize("turns", [0, 3])
async def test_a_client_that_goes_ends_its_request_once_whether_its_checks_have_begun_or_not(turns, monkeypatch):
    said = []

    def checks(_call):
        try:
            yield Sleep(20)
        finally:
            said.append("closed")

    monkeypatch.setattr(inbound_serving, "inbound", checks)
    telemetry = SimpleNamespace(began=lambda call: None, broken=lambda call, span: said.append("broken"))
    server = SimpleNamespace(
        call=lambda *_, **__: SimpleNamespace(admission=None),
        telemetry=telemetry,
        awaited=SimpleNamespace(sleep=asyncio.sleep),
    )
    forwarder = SimpleNamespace(loop=asyncio.get_running_loop())
    request = SimpleNamespace(sent_on=SimpleNamespace(body=None), body_source=None, protocol="http", port=0)
    serving = Serving(server, forwarder, None, request, None, None, False, None)  # type: ignore[arg-type]
    serving.start()
    for _ in range(turns):
        await asyncio.sleep(0)
    serving.cancel()
    serving.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert (said, serving.over) == (["closed", "broken"], True)


def test_the_threads_of_the_application_are_not_the_proxys_and_that_is_said(app):
    with InboundProxy(app.port, protection(loadShedding={"maxQueueTime": "1s"}), policy_port=9080) as proxy:
        with proxy.client() as client:
            assert client.get().status == 200
        assert [problem.code for problem in proxy.mesh.problems] == ["queue-time-unknown"]


def test_rates_are_limited_as_filters_say(app):
    filters = envoy_filter({})
    filters["spec"]["configPatches"] = [insert(local(bucket(1), enable_x_ratelimit_headers="DRAFT_VERSION_03"))]
    with InboundProxy(app.port, filters) as proxy, proxy.client() as client:
        first = client.get()
        assert (first.status, first.header("x-ratelimit-remaining")) == (200, "0")
        assert client.get().status == 429


LINE = "%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT%\n"


@pytest.mark.parametrize("straight", [True, False])
def test_a_request_is_told_of_alike_with_and_without_an_exchange_of_its_own(app, straight, tmp_path, monkeypatch):
    if not straight:
        monkeypatch.setattr(Server, "straight", lambda *_: None)
    app.behave = lambda handler: handler.answer(503 if handler.path == "/busy" else 200, b"abc") or True
    file = tmp_path / "access.log"
    options = {"access_log": str(file), "access_log_format": LINE}
    deny = authorization_policy("p", "DENY", on_paths("/admin"))
    with InboundProxy(app.port, deny, **options) as proxy, proxy.client() as client:
        for path in ("/a", "/admin", "/busy"):
            client.get(path)
        client.send(b"POST /post HTTP/1.1\r\nHost: a\r\ncontent-length: 5\r\n\r\nhello")
        client.response()
        client.send(b"POST /post HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        client.send(b"0\r\n\r\n")
        client.response()
        assert eventually(lambda: file.exists() and file.read_text().count("\n") == 5)
        told = {code: proxy.metric("istio_requests_total", response_code=code) for code in ("200", "403", "503")}
    assert told == {"200": 3, "403": 1, "503": 1}
    assert file.read_text().splitlines() == [
        "GET /a 200 - via_upstream 0 3",
        "GET /admin 403 - rbac_access_denied_matched_policy[ns[default]-policy[p]-rule[0]] 0 19",
        "GET /busy 503 - via_upstream 0 3",
        "POST /post 200 - via_upstream 5 3",
        "POST /post 200 - via_upstream 3 3",
    ]

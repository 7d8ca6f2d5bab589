"""Clients that speak HTTP/2 to the proxy, over real sockets: requests, streams both ways, drains, clients that leave."""

from __future__ import annotations

import gc
import json
import threading
import weakref

import h2.events
import h2.settings
import pytest

from meshlib.proxy.http2_downstream import Http2Downstream
from tests.support import h2_server
from tests.support.eventually import eventually
from tests.support.h2_client import Answer, H2Client
from tests.support.h2_server import H2Server
from tests.support.mesh_config import mesh_config
from tests.support.proxy import Proxy
from tests.support.resources import pod, service, to, virtual_service
from tests.support.servers import EchoServer

SIZE, LARGE = 200_000, 16 * 1024 * 1024
MANY = [f"x_{number}" for number in range(110)]
GRPC = {"content_type": "application/grpc", "te": "trailers"}


@pytest.fixture
def server():
    with EchoServer("v1") as made:
        yield made


def http1(server: EchoServer, *rules: dict) -> list[dict]:
    found = [service("reviews"), pod("reviews", "v1", server.port)]
    return [*found, virtual_service("reviews", *rules)] if rules else found


def http2(server: H2Server, *rules: dict) -> list[dict]:
    ports = [{"name": "grpc", "port": 9080, "targetPort": "http"}]
    found = [service("reviews", ports=ports), pod("reviews", "v1", server.port)]
    return [*found, virtual_service("reviews", *rules)] if rules else found


def seen(answer):
    return json.loads(answer.body)


# -- to an upstream of HTTP/1.1 ---------------------------------------------------------------------------------------------


def test_a_request_goes_on_as_http1_and_its_response_comes_back_as_http2(server):
    with Proxy(http1(server)) as proxy, H2Client(proxy.port) as client:
        answer = client.get("/reviews/1?a=b", x_mine="1", te="trailers")
        found = seen(answer)
        assert (answer.status, found["path"], found["method"]) == (200, "/reviews/1?a=b", "GET")
        headers = found["headers"]
        assert (headers["host"], headers["x-mine"], headers["x-forwarded-proto"]) == ("reviews:9080", "1", "http")
        assert len(headers["x-request-id"]) == 36
        assert "x-envoy-upstream-service-time" in answer.headers
        assert "connection" not in answer.headers
        assert proxy.metric("istio_requests_total", response_code="200", request_protocol="http") == 1


def test_http1_and_http2_are_spoken_on_one_port(server):
    with Proxy(http1(server)) as proxy, H2Client(proxy.port) as client, proxy.client() as other:
        assert other.get("/1").status == 200
        assert client.get("/2").status == 200
        assert proxy.process.listener is not None
        assert proxy.process.listener.accepted == 2


def test_what_the_client_says_of_itself_is_kept(server):
    with Proxy(http1(server)) as proxy, H2Client(proxy.port) as client:
        headers = seen(client.get("/", x_request_id="mine", x_forwarded_proto="https"))["headers"]
    assert (headers["x-request-id"], headers["x-forwarded-proto"]) == ("mine", "https")


@pytest.mark.parametrize(
    ("name", "came", "goes_on"),
    [
        ("x-request-id", "mine", "mine"),
        ("x-forwarded-proto", "https", "https"),
        ("x-envoy-attempt-count", "9", "1"),
        ("x-envoy-retry-on", "5xx", None),
        ("x-forwarded-client-cert", "By=a", None),
    ],
)
def test_one_header_that_a_proxy_has_to_look_at_is_enough(name, came, goes_on):
    with H2Server(echo) as server, Proxy(http2(server)) as proxy, H2Client(proxy.port) as client:
        for _ in range(3):  # on a new connection, and on one that is there
            assert client.get("/", **{name.replace("-", "_"): came}).status == 200
        for request in server.requests:
            assert [value for key, value in request.headers if key == name.encode()] == (
                [] if goes_on is None else [goes_on.encode()]
            )
            assert request.header(b"x-forwarded-proto") in (b"http", b"https")
            assert request.header(b"x-request-id")


def test_a_header_that_does_not_go_out_is_none_to_rules(server):
    asked = {"match": [{"headers": {"x-envoy-retry-on": {"exact": "5xx"}}}], "directResponse": {"status": 418}}
    with Proxy(http1(server, asked, {"route": [to("reviews")]})) as proxy, H2Client(proxy.port) as client:
        assert client.get("/", x_envoy_retry_on="5xx").status == 200


def test_slashes_are_merged_where_the_mesh_says_so(server):
    merged = mesh_config(pathNormalization={"normalization": "MERGE_SLASHES"})
    with Proxy([*http1(server), merged]) as proxy, H2Client(proxy.port) as client:
        assert seen(client.get("/a//b"))["path"] == "/a/b"


def test_a_head_that_goes_on_over_http2_has_no_body_either():
    def answers(peer, request) -> None:
        peer.head(request, 200, [(b"content-length", b"7")], end=True)

    with H2Server(answers) as server, Proxy(http2(server)) as proxy, H2Client(proxy.port) as client:
        for _ in range(3):  # on a new connection, and on one that is there
            answer = client.get("/", "HEAD")
            assert (answer.status, answer.headers["content-length"], answer.ended) == (200, "7", True)


def test_ids_that_clients_bring_and_those_that_are_added_count_alike():
    def size() -> float:
        return proxy.metric("istio_request_bytes_sum", reporter="source")

    with H2Server(echo) as server, Proxy(http2(server)) as proxy, H2Client(proxy.port) as client:
        for _ in range(3):
            assert client.get("/").status == 200
        added = size()
        for _ in range(3):
            assert client.get("/", x_request_id="7" * 36).status == 200
        assert size() == added * 2


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_comes_with_its_head_goes_on(server, declared):
    more = {"content_length": "4"} if declared else {}
    with Proxy(http1(server)) as proxy, H2Client(proxy.port) as client:
        for _ in range(2):
            flush = client.flush
            client.flush = lambda: None  # type: ignore[method-assign] # both are one write
            stream = client.open("/", "POST", end=False, **more)
            client.send(stream, b"body", end=True)
            client.flush = flush  # type: ignore[method-assign]
            client.flush()
            assert seen(client.answer(stream))["body"] == "body"


@pytest.mark.parametrize("size", [0, 5, 1_000_000])
@pytest.mark.parametrize("declared", [True, False])
def test_bodies_of_any_size_go_on(server, size, declared):
    body = bytes(65 + number % 26 for number in range(1000)) * (size // 1000) or b"x" * size
    length = {"content_length": str(size)} if declared else {}
    with Proxy(http1(server)) as proxy, H2Client(proxy.port) as client:
        stream = client.open("/", "POST", end=False, **length)
        client.send(stream, body, end=True)
        assert seen(client.answer(stream))["body"] == body.decode()


def test_many_requests_at_a_time_share_one_connection(server):
    with Proxy(http1(server)) as proxy, H2Client(proxy.port) as client:
        streams = [client.open(f"/{number}") for number in range(50)]
        assert [seen(client.answer(stream))["path"] for stream in streams] == [f"/{number}" for number in range(50)]


def test_a_client_that_asks_first_is_told_to_continue(server):
    with Proxy(http1(server)) as proxy, H2Client(proxy.port) as client:
        stream = client.open("/", "POST", end=False, expect="100-continue")
        client.until(lambda: client.answers[stream].interim == ["100"])
        client.send(stream, b"now", end=True)
        found = seen(client.answer(stream))
    assert (found["body"], "expect" in found["headers"]) == ("now", False)


def test_a_head_is_answered_without_a_body(server):
    with Proxy(http1(server)) as proxy, H2Client(proxy.port) as client:
        answer = client.get("/", "HEAD")
    assert (answer.status, bytes(answer.body), answer.reset) == (200, b"", None)
    assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_that_has_no_body(server, status):
    server.behave = lambda handler: handler.answer(status) or True
    with Proxy(http1(server)) as proxy, H2Client(proxy.port) as client:
        answer = client.get()
    assert (answer.status, bytes(answer.body)) == (status, b"")


def test_a_large_response_comes_whole_and_only_as_the_client_reads(server):
    body = bytes(range(256)) * 20_000
    server.behave = lambda handler: handler.answer(200, body) or True
    with Proxy(http1(server)) as proxy, H2Client(proxy.port, reads=False) as client:
        stream = client.open()
        client.until(lambda: len(client.answers[stream].body) == 65535)
        other = client.open("/other", "HEAD")
        assert client.answer(other).status == 200  # one stream that waits does not hold up another
        client.reads = True
        client.h2.acknowledge_received_data(65535, stream)
        client.flush()
        assert bytes(client.answer(stream).body) == body


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"host_": "other"}, 400), ({"expect": "the-worst"}, 417), (dict.fromkeys(MANY, "y"), 431)],
)
def test_what_could_be_read_in_two_ways_goes_no_further(server, headers, status):
    headers = {name.rstrip("_"): value for name, value in headers.items()}
    with Proxy(http1(server)) as proxy, H2Client(proxy.port) as client:
        number = client.h2.get_next_available_stream_id()
        if "host" in headers:
            client.h2.config.validate_outbound_headers = False
            pairs = [(":method", "GET"), (":scheme", "http"), (":authority", "reviews:9080"), (":path", "/")]
            client.answers[number] = Answer()
            client.h2.send_headers(number, [*pairs, ("host", "other")], end_stream=True)
            client.flush()
        else:
            client.open(**headers)
        assert client.answer(number).status == status
        assert client.get().status == 200
        assert proxy.process.listener is not None
        assert proxy.process.listener.refusals == {status: 1}
    assert len(server.seen) == 1


def test_paths_are_normalized_before_anything_reads_them(server):
    with Proxy(http1(server)) as proxy, H2Client(proxy.port) as client:
        assert seen(client.get("/a/../b?c=/../d"))["path"] == "/b?c=/../d"
        assert client.get("*", "OPTIONS").status == 404
        assert client.get("/%00").status == 400


def test_a_host_that_nobody_has_is_answered_by_the_mesh(server):
    with Proxy(http1(server, {"match": [{"uri": {"exact": "/x"}}], "route": [to("reviews")]})) as proxy:
        with H2Client(proxy.port) as client:
            assert client.get("/other").status == 404
            answer = client.get("/other", "POST", **GRPC)
    assert (answer.status, answer.headers["grpc-status"], bytes(answer.body)) == (200, "12", b"")
    assert answer.headers["content-type"] == "application/grpc"


def test_a_request_that_is_refused_is_a_status_to_grpc(server):
    with Proxy(http1(server)) as proxy, H2Client(proxy.port) as client:
        answer = client.get("/", "POST", expect="the-worst", **GRPC)
    assert (answer.status, answer.headers["grpc-status"]) == (200, "2")


def broken(*_):
    raise RuntimeError("a rule that cannot be")


def test_a_bug_before_a_request_is_forwarded_is_500_to_its_stream_and_to_no_other(server, monkeypatch, caplog):
    with Proxy(http1(server)) as proxy, H2Client(proxy.port) as client:
        monkeypatch.setattr(Http2Downstream, "forward", broken)
        assert client.get("/").status == 500
        assert client.get("/", "POST", **GRPC).headers["grpc-status"] == "2"
        monkeypatch.undo()
        assert client.get("/").status == 200
        assert proxy.process.listener.refusals == {500: 2}
    assert caplog.text.count("a fault of meshlib, please report it") == 2


def test_a_bug_amid_a_response_resets_its_stream(server, monkeypatch):
    def begins_and_breaks(self, call, body):
        call.begin(200, b"", [])
        raise RuntimeError("too late")

    with Proxy(http1(server)) as proxy, H2Client(proxy.port) as client:
        monkeypatch.setattr(Http2Downstream, "forward", begins_and_breaks)
        assert client.get("/").reset == 2
        monkeypatch.undo()
        assert client.get("/").status == 200


def test_an_upstream_that_is_not_there_is_unavailable_to_grpc():
    with EchoServer() as server:
        resources = http1(server)
    with Proxy(resources) as proxy, H2Client(proxy.port) as client:
        answer = client.get("/", "POST", **GRPC)
        assert answer.headers["grpc-status"] == "14"
        assert "remote connection failure" in answer.headers["grpc-message"]
        labels = {"request_protocol": "grpc", "grpc_response_status": "14", "response_flags": "UF,URX"}
        assert proxy.metric("istio_requests_total", **labels) == 1


def test_who_comes_between_exchanges_sees_the_calls_of_connections_that_are_there(server):
    with Proxy(http1(server)) as proxy, H2Client(proxy.port) as client:
        assert client.get("/before").status == 200
        core, asked = proxy.process._mesh._core, []
        usual = core.exchange_of
        core.exchange_of = lambda call, brief=False: asked.append(call.request.path) or usual(call, brief)
        assert client.get("/after").status == 200
    assert asked == ["/after"]


@pytest.mark.parametrize(("field", "name"), [("requestId", "x-request-id"), ("attemptCount", "x-envoy-attempt-count")])
def test_each_request_goes_by_the_settings_of_its_time(field, name, server):
    with Proxy(http1(server)) as proxy, H2Client(proxy.port) as client:
        assert name in seen(client.get("/"))["headers"]
        off = mesh_config(defaultConfig={"proxyHeaders": {field: {"disabled": True}}})
        for settings in ([off], []):
            proxy.process._mesh.apply([*http1(server), *settings])
            assert (name in seen(client.get("/"))["headers"]) == (not settings)


def test_an_idle_connection_keeps_no_configuration_that_was_replaced(server):
    with Proxy(http1(server)) as proxy, H2Client(proxy.port) as client:
        assert client.get("/").status == 200
        mesh = proxy.process._mesh
        replaced = weakref.ref(mesh._core.live.snapshot)
        mesh.apply([*http1(server), virtual_service("reviews", {"name": "other", "route": [to("reviews")]})])
        assert eventually(lambda: gc.collect() is None or replaced() is None)
        assert client.get("/").status == 200


def test_responses_that_are_more_than_a_write_takes_come_all():
    """Some megabytes, said in the turn in which the requests came, to windows that take them at once."""
    rule = {"directResponse": {"status": 200, "body": {"string": "x" * SIZE}}}
    with (
        Proxy([service("reviews"), virtual_service("reviews", rule)]) as proxy,
        H2Client(proxy.port) as client,
    ):
        client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: LARGE})
        client.h2.increment_flow_control_window(LARGE)
        flush, client.flush = client.flush, lambda: None
        streams = [client.open("/") for _ in range(30)]
        client.flush = flush
        client.flush()
        assert [len(client.answer(stream).body) for stream in streams] == [SIZE] * 30


# -- to an upstream of HTTP/2 -----------------------------------------------------------------------------------------------


def echo(peer, request):
    if request.ended or not peer.server.early:
        peer.respond(request, bytes(request.body), trailers=[(b"grpc-status", b"0")])


def test_a_unary_call_of_grpc_with_trailers():
    with H2Server(echo) as server, Proxy(http2(server)) as proxy, H2Client(proxy.port) as client:
        stream = client.open("/shop.Catalog/Get", "POST", end=False, **GRPC)
        client.send(stream, b"\0\0\0\0\1x", end=True)
        answer = client.answer(stream)
        assert (answer.status, bytes(answer.body)) == (200, b"\0\0\0\0\1x")
        assert answer.trailers == {"grpc-status": "0"}
        assert server.requests[0].header(b"te") == b"trailers"
        assert proxy.metric("istio_requests_total", request_protocol="grpc", grpc_response_status="0") == 1
        assert proxy.metric("istio_request_messages_total", reporter="source") == 1
        assert proxy.metric("istio_response_messages_total", reporter="source") == 1


def test_what_an_application_says_of_certificates_and_routing_does_not_go_out():
    with H2Server(echo) as server, Proxy(http2(server)) as proxy, H2Client(proxy.port) as client:
        for _ in range(3):  # on a new connection, and on one that is there
            assert client.get("/", x_forwarded_client_cert="By=a", x_envoy_retry_on="5xx", x_mine="1").status == 200
        said = [[name for name, _ in request.headers] for request in server.requests]
        assert all(b"x-mine" in names for names in said)
        assert not any(b"x-forwarded-client-cert" in names or b"x-envoy-retry-on" in names for names in said)


def test_messages_of_streams_are_counted_wherever_their_pieces_end():
    message = b"\0\0\0\0\3abc"
    with H2Server(echo) as server, Proxy(http2(server)) as proxy, H2Client(proxy.port) as client:
        stream = client.open("/shop.Catalog/Chat", "POST", end=False, **GRPC)
        for piece in (message[:2], message[2:6], message[6:] + message, message + message[:5]):
            client.send(stream, piece)
        client.send(stream, message[5:], end=True)
        assert bytes(client.answer(stream).body) == message * 4
        for name in ("istio_request_messages_total", "istio_response_messages_total"):
            assert eventually(lambda name=name: proxy.metric(name, reporter="source") == 4)


def test_both_directions_of_a_stream_go_on_at_once():
    peers = []
    with H2Server(lambda peer, request: peers.append((peer, request)), early=True) as server:
        with Proxy(http2(server)) as proxy, H2Client(proxy.port) as client:
            stream = client.open("/shop.Catalog/Chat", "POST", end=False, **GRPC)
            assert eventually(lambda: peers)
            peer, request = peers[0]
            peer.head(request, headers=[(b"content-type", b"application/grpc")])
            client.until(lambda: client.answers[stream].headers)
            for piece in (b"one", b"two", b"three"):
                client.send(stream, piece)
                assert eventually(lambda piece=piece: bytes(request.body).endswith(piece))
                peer.some(request, b"re:" + piece)
                client.until(lambda piece=piece: client.answers[stream].body.endswith(b"re:" + piece))
            client.send(stream, b"", end=True)
            assert eventually(lambda: request.ended)
            peer.data(request, b"", [(b"grpc-status", b"0")])
            assert client.answer(stream).trailers == {"grpc-status": "0"}


def test_trailers_of_a_request_go_on():
    ended = threading.Event()
    with H2Server(lambda peer, request: (echo(peer, request), ended.set())) as server:
        trailers = []
        before = h2_server.Peer._handle

        def noticed(self, event):
            if isinstance(event, h2.events.TrailersReceived):
                trailers.extend((bytes(name), bytes(value)) for name, value in event.headers)
            before(self, event)

        h2_server.Peer._handle = noticed  # type: ignore[method-assign]
        try:
            with Proxy(http2(server)) as proxy, H2Client(proxy.port) as client:
                stream = client.open("/", "POST", end=False)
                client.send(stream, b"body")
                client.trailers(stream, checksum="7")
                assert bytes(client.answer(stream).body) == b"body"
        finally:
            h2_server.Peer._handle = before  # type: ignore[method-assign]
    assert trailers == [(b"checksum", b"7")]


def test_a_request_that_ends_after_its_head_is_sent_on_as_one():
    with H2Server(echo) as server, Proxy(http2(server)) as proxy, H2Client(proxy.port) as client:
        stream = client.open("/", "POST", end=False, **GRPC)
        client.send(stream, b"", end=True)
        assert client.answer(stream).trailers == {"grpc-status": "0"}


def test_a_call_of_grpc_is_tried_again_on_its_status():
    calls = []

    def answer(peer, request):
        calls.append(request)
        if len(calls) == 1:
            peer.head(request, headers=[(b"content-type", b"application/grpc"), (b"grpc-status", b"14")], end=True)
        else:
            echo(peer, request)

    rule = {"route": [to("reviews")], "retries": {"attempts": 2, "retryOn": "unavailable"}}
    with H2Server(answer) as server, Proxy(http2(server, rule)) as proxy, H2Client(proxy.port) as client:
        stream = client.open("/", "POST", end=False, **GRPC)
        client.send(stream, b"message", end=True)
        answer = client.answer(stream)
    assert (answer.trailers["grpc-status"], len(calls), bytes(answer.body)) == ("0", 2, b"message")


def test_a_stream_that_breaks_upstream_is_reset_and_not_ended():
    def answer(peer, request):
        peer.head(request)
        peer.some(request, b"half")
        peer.once_read(lambda: peer.reset(request))

    with H2Server(answer) as server, Proxy(http2(server)) as proxy, H2Client(proxy.port) as client:
        answer = client.get()
        assert (bytes(answer.body), answer.ended, answer.reset) == (b"half", False, 2)
        assert client.goaway is None


def test_a_stream_that_the_client_resets_is_reset_upstream():
    with H2Server(lambda peer, request: None, early=True) as server:
        with Proxy(http2(server)) as proxy, H2Client(proxy.port) as client:
            stream = client.open("/", "POST", end=False, **GRPC)
            client.send(stream, b"some")
            assert eventually(lambda: server.requests and bytes(server.requests[0].body) == b"some")
            client.reset(stream)
            assert server.changed.wait(60)
            assert server.peers[0].resets[0][1] == 8


def test_a_client_that_goes_away_takes_its_calls_with_it():
    with H2Server(lambda peer, request: None, early=True) as server, Proxy(http2(server)) as proxy:
        with H2Client(proxy.port) as client:
            client.open("/", "POST", end=False, **GRPC)
            client.open("/2")
            assert eventually(lambda: len(server.requests) == 2)
        assert eventually(lambda: server.peers and len(server.peers[0].resets) == 2)
        assert proxy.process.listener is not None
        assert eventually(lambda: proxy.process.listener.connections == 0)


def test_a_response_before_the_request_is_over_ends_it():
    with H2Server(lambda peer, request: peer.respond(request, b"enough"), early=True) as server:
        with Proxy(http2(server)) as proxy, H2Client(proxy.port) as client:
            stream = client.open("/", "POST", end=False)
            client.until(lambda: client.answers[stream].ended)
            assert bytes(client.answers[stream].body) == b"enough"
            assert client.get("/next").status == 200


# -- connections --------------------------------------------------------------------------------------------------------------


def test_a_drain_finishes_what_is_under_way():
    release = threading.Event()

    def answer(peer, request):
        threading.Thread(target=lambda: (release.wait(60), peer.respond(request, b"late"))).start()

    with H2Server(answer) as server, Proxy(http2(server)) as proxy, H2Client(proxy.port) as client:
        stream = client.open()
        assert eventually(lambda: server.requests)
        proxy.stop()
        client.until(lambda: client.goaway is not None)
        release.set()
        assert bytes(client.answer(stream).body) == b"late"
        client.until(lambda: client.closed)
        assert proxy.join()


def test_an_idle_connection_closes_when_the_proxy_drains(server):
    with Proxy(http1(server)) as proxy, H2Client(proxy.port) as client:
        client.get()
        proxy.stop()
        client.until(lambda: client.closed)
        assert client.goaway is not None
        assert proxy.join()


def test_a_client_that_breaks_the_protocol_loses_its_connection_only(server):
    with Proxy(http1(server)) as proxy, H2Client(proxy.port) as client, H2Client(proxy.port) as other:
        client.sock.sendall(b"\0\0\1\0\0\0\0\0\7x")
        client.until(lambda: client.closed)
        assert client.goaway is not None
        assert other.get().status == 200


def test_calls_on_a_connection_that_is_there_need_no_task():
    with H2Server(echo) as server, Proxy(http2(server)) as proxy, H2Client(proxy.port) as client:
        for number in range(5):
            stream = client.open("/shop.Catalog/Get", "POST", end=False, **GRPC)
            client.send(stream, b"%d" % number, end=True)
            answer = client.answer(stream)
            assert (bytes(answer.body), answer.trailers) == (b"%d" % number, {"grpc-status": "0"})
        assert server.connections == 1
        assert proxy.metric("istio_requests_total", request_protocol="grpc", grpc_response_status="0") == 5


def test_a_head_that_does_not_come_in_time_resets_the_stream():
    def answer(peer, request):
        if request.path == "/first":
            echo(peer, request)

    first = {"match": [{"uri": {"exact": "/first"}}], "route": [to("reviews")]}
    rule = {"route": [to("reviews")], "timeout": "0.3s"}
    with H2Server(answer) as server, Proxy(http2(server, first, rule)) as proxy, H2Client(proxy.port) as client:
        client.get("/first")
        answer = client.get("/never", "POST", **GRPC)
        assert answer.headers["grpc-status"] == "14"
        assert client.get("/never").status == 504
        assert eventually(lambda: len(server.peers[0].resets) == 2)


def test_a_client_that_resets_a_call_without_a_task_resets_it_upstream():
    with H2Server(lambda peer, request: request.path == "/first" and echo(peer, request)) as server:
        with Proxy(http2(server)) as proxy, H2Client(proxy.port) as client:
            client.get("/first")
            stream = client.open("/never")
            assert eventually(lambda: len(server.requests) == 2)
            client.reset(stream)
            assert server.changed.wait(60)

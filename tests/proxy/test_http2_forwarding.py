"""Calls over HTTP/2 that go on over it: in one step where all of the response has come, and as any other attempt where not."""

from __future__ import annotations

import http.client
import socket

import pytest

from meshlib.proxy.forwarding import Forwarding
from meshlib.proxy.http2_forwarding import Http2Forwarding
from meshlib.proxy.process import ProxySettings
from meshlib.telemetry.observe import Telemetry
from meshlib.transport.protocol.http2_codec import Code
from meshlib.transport.protocol.shortcuts import PLAIN
from tests.support.eventually import eventually
from tests.support.fake_clock import FakeClock
from tests.support.h2_client import H2Client
from tests.support.h2_server import H2Server
from tests.support.mesh_config import mesh_config
from tests.support.proxy import Proxy
from tests.support.resources import pod, service, to, virtual_service

MESSAGE = b"\0\0\0\0\1x"
GRPC = {"content_type": "application/grpc", "te": "trailers"}
CALLS = 5


@pytest.fixture
def steps(monkeypatch):
    """A list that grows by one for each call that went on in one step."""
    seen: list[int] = []
    changed = Http2Forwarding._changed

    def noted(self) -> None:
        stream = self._on
        changed(self)
        if stream is not None and self._on is None and self._more is None:  # nobody else goes on with it
            seen.append(stream.id)

    monkeypatch.setattr(Http2Forwarding, "_changed", noted)
    return seen


def resources(server: H2Server, *rules: dict) -> list[dict]:
    ports = [{"name": "grpc", "port": 9080, "targetPort": "http"}]
    found = [service("reviews", ports=ports), pod("reviews", "v1", server.port)]
    return [*found, virtual_service("reviews", *rules)] if rules else found


def at_once(peer, request, body: bytes, trailers=None) -> None:
    """All of a response in one write, as real servers have it."""
    with peer.lock:
        peer.flush = lambda: None
        try:
            peer.respond(request, body, trailers=trailers)
        finally:
            del peer.flush
        peer.flush()


def call(client: H2Client, message: bytes, path: str = "/shop.Catalog/Get"):
    """The answer to a unary call whose head and message are one write."""
    flush = client.flush
    client.flush = lambda: None  # type: ignore[method-assign]
    try:
        stream = client.open(path, "POST", end=False, **GRPC)
        client.send(stream, message, end=True)
    finally:
        client.flush = flush  # type: ignore[method-assign]
    client.flush()
    return client.answer(stream)


def status(number: bytes):
    return lambda peer, request: at_once(peer, request, bytes(request.body), [(b"grpc-status", number)])


def in_pieces(peer, request) -> None:
    peer.head(request)
    peer.some(request, b"half")
    peer.once_read(lambda: peer.data(request, b"rest"))


def test_a_unary_call_is_counted_as_on_every_other_way(steps):
    with H2Server(status(b"0")) as server, Proxy(resources(server)) as proxy, H2Client(proxy.port) as client:
        for _ in range(CALLS):
            answer = call(client, MESSAGE)
            assert (answer.status, bytes(answer.body), answer.trailers) == (200, MESSAGE, {"grpc-status": "0"})
        assert proxy.metric("istio_requests_total", request_protocol="grpc", grpc_response_status="0") == CALLS
        for name in ("istio_request_messages_total", "istio_response_messages_total"):
            assert proxy.metric(name, reporter="source") == CALLS
        size = proxy.metric("istio_response_bytes_sum", reporter="source")
        assert size == proxy.metric("istio_response_bytes_count", reporter="source") * (size // CALLS)
    assert PLAIN or steps


@pytest.fixture
def noted(monkeypatch):
    """Of each call that was counted by what is known of it beforehand: whether that was enough."""
    seen: list[bool] = []
    known = Telemetry.noted

    def looked(self, *facts) -> bool:
        seen.append(known(self, *facts))
        return seen[-1]

    monkeypatch.setattr(Telemetry, "noted", looked)
    return seen


@pytest.mark.skipif(PLAIN, reason="then none is")
@pytest.mark.parametrize("method", ["grpc", "GET", "empty"])
def test_nothing_is_noted_in_a_call_that_ends_well_and_that_nobody_asks_about(method, noted, steps):
    with H2Server(status(b"0")) as server, Proxy(resources(server)) as proxy, H2Client(proxy.port) as client:
        for _ in range(CALLS):
            body = MESSAGE if method == "grpc" else b"x" if method == "GET" else b""
            answer = call(client, body) if method == "grpc" else client.get("/")
            assert (answer.status, answer.trailers) == (200, {"grpc-status": "0"})
        assert proxy.metric("istio_requests_total", response_code="200") == CALLS
        assert proxy.metric("istio_response_bytes_count", reporter="source") == CALLS
        (spare,) = spares(proxy)
        assert (spare._call.outcome, spare._call.record.attempted, spare._call.record.status) == (None, None, 0)
    assert noted.count(True) >= CALLS - 2  # all but the one that made the connection, and the first that was counted


@pytest.mark.parametrize("what", ["messages", "request", "short request", "short", "status", "log", "remembered"])
def test_what_more_is_to_be_said_of_is_told_as_any_other(what, noted, steps, tmp_path):
    more = {"access_log": tmp_path / "log"} if what == "log" else {}
    message = {"request": b"\0\0\0\0\1", "short request": b"\0\0"}.get(what, MESSAGE)  # the first is longer than it is

    def answers(peer, request) -> None:
        found = b"5" if what == "status" else b"0"
        response = {"messages": MESSAGE * 2, "short": b"\0\0"}.get(what, MESSAGE)
        at_once(peer, request, response, [(b"grpc-status", found)])

    told = []
    with H2Server(answers) as server, Proxy(resources(server), **more) as proxy, H2Client(proxy.port) as client:
        if what == "remembered":
            proxy.process._mesh._core.telemetry.remember = lambda call, now, trace: told.append(call.record)
        for _ in range(CALLS):
            assert call(client, message).status == 200
        assert proxy.metric("istio_requests_total", response_code="200") == CALLS
    assert not noted
    assert PLAIN or steps
    if what == "remembered":
        assert [(record.status, record.grpc_status) for record in told] == [(200, 0)] * CALLS
        assert all(record.attempts and record.upstream_ms for record in told)
    elif what == "log":
        assert len((tmp_path / "log").read_text().splitlines()) == CALLS


@pytest.mark.parametrize(("number", "messages"), [(b"5", 1), (b"0", 2)])
def test_what_is_not_one_message_and_well_is_counted_as_it_is(number, messages, steps):
    with H2Server(status(number)) as server, Proxy(resources(server)) as proxy, H2Client(proxy.port) as client:
        for _ in range(CALLS):
            assert call(client, MESSAGE * messages).trailers == {"grpc-status": number.decode()}
        assert proxy.metric("istio_requests_total", grpc_response_status=number.decode()) == CALLS
        assert proxy.metric("istio_response_messages_total", reporter="source") == CALLS * messages
    assert PLAIN or steps


def test_a_request_without_grpc_goes_so_too_and_a_response_in_pieces_as_any_other(steps):
    def answer(peer, request) -> None:
        in_pieces(peer, request) if request.path == "/pieces" else at_once(peer, request, b"all")

    with H2Server(answer) as server, Proxy(resources(server)) as proxy, H2Client(proxy.port) as client:
        for _ in range(CALLS):
            assert bytes(client.get("/").body) == b"all"
            assert bytes(client.get("/pieces").body) == b"halfrest"
        assert proxy.metric("istio_requests_total", response_code="200") == 2 * CALLS
    assert PLAIN or steps


def test_what_comes_at_once_and_is_no_200_is_handed_on_whole_by_the_long_way(steps):
    def refuse(peer, request) -> None:
        with peer.lock:
            peer.flush = lambda: None
            try:
                peer.respond(request, b"none of it", 404, [(b"x-why", b"nothing")], [(b"x-last", b"1")])
            finally:
                del peer.flush
            peer.flush()

    with H2Server(refuse) as server, Proxy(resources(server)) as proxy, H2Client(proxy.port) as client:
        for _ in range(CALLS):
            answer = client.get("/")
            assert (answer.status, bytes(answer.body), answer.trailers) == (404, b"none of it", {"x-last": "1"})
            assert answer.headers["x-why"] == "nothing"
        assert proxy.metric("istio_requests_total", response_code="404") == CALLS
    assert not steps


def test_a_body_waits_for_the_window():
    settings = {4: 1000}  # INITIAL_WINDOW_SIZE
    with (
        H2Server(lambda peer, request: peer.respond(request, bytes(request.body)), settings=settings) as server,
        Proxy(resources(server)) as proxy,
    ):
        with H2Client(proxy.port) as client:
            for _ in range(3):
                assert bytes(call(client, b"x" * 5000).body) == b"x" * 5000


def test_a_bug_is_500_to_its_stream_and_to_no_other(monkeypatch, caplog):
    with H2Server(status(b"0")) as server, Proxy(resources(server)) as proxy, H2Client(proxy.port) as client:
        for _ in range(2):
            assert client.get("/").status == 200
        monkeypatch.setattr("meshlib.proxy.http2_forwarding.fields", lambda trailers: 1 / 0)
        if not PLAIN:
            assert client.get("/").status == 500
            assert "a fault of meshlib" in caplog.text
        monkeypatch.undo()
        assert client.get("/").status == 200


@pytest.mark.skipif(PLAIN, reason="then there are none")
def test_a_bug_once_a_call_is_counted_cuts_its_stream_and_counts_nothing_more(monkeypatch, caplog):
    with H2Server(status(b"0")) as server, Proxy(resources(server)) as proxy, H2Client(proxy.port) as client:
        for _ in range(2):
            assert client.get("/").status == 200
        monkeypatch.setattr("meshlib.proxy.http2_call.Http2Call.respond_written", lambda *_: 1 / 0)
        assert client.get("/").reset == Code.INTERNAL_ERROR
        assert "a response could not be sent: a fault of meshlib" in caplog.text
        monkeypatch.undo()
        assert client.get("/").status == 200
        assert eventually(lambda: proxy.metric("istio_requests_total", reporter="source") == 4)


def test_who_leaves_while_it_is_on_its_way_is_told_upstream():
    def answer(peer, request) -> None:
        if request.path not in ("/never", "/gone"):
            status(b"0")(peer, request)

    def told(path: str) -> bool:
        asked = [
            each.stream for each in server.requests if each.path == path
        ]  # the proxy may be through with it before
        return bool(asked) and asked[0] in [stream for stream, _ in server.peers[0].resets]

    never = {"match": [{"uri": {"exact": "/never"}}], "route": [to("reviews")], "timeout": "0.3s"}
    others = {"route": [to("reviews")]}
    with H2Server(answer) as server, Proxy(resources(server, never, others)) as proxy, H2Client(proxy.port) as client:
        assert client.get("/").status == 200
        assert client.get("/never").status == 504  # its time is over
        assert eventually(lambda: told("/never"))
        stream = client.open("/gone")
        assert eventually(lambda: server.requests[-1].path == "/gone")
        client.reset(stream)
        assert eventually(lambda: told("/gone"))
        assert client.get("/").status == 200


@pytest.fixture
def tasks(monkeypatch):
    """A list that grows by the path of each request that goes its way in a task."""
    seen: list[str] = []
    in_a_task = Forwarding._in_a_task

    def noted(self, exchange, effect) -> None:
        seen.append(self._call.request.path)
        in_a_task(self, exchange, effect)

    monkeypatch.setattr(Forwarding, "_in_a_task", noted)
    return seen


@pytest.mark.skipif(PLAIN, reason="then all do")
def test_neither_secrets_nor_a_client_of_http1_need_a_task(tasks):
    with H2Server(lambda peer, request: at_once(peer, request, b"all")) as server, Proxy(resources(server)) as proxy:
        with H2Client(proxy.port) as client, socket.create_connection(("127.0.0.1", proxy.port), 30) as other:
            client.get("/first")  # makes the connection
            tasks.clear()
            for _ in range(2):
                assert bytes(client.get("/secret", authorization="Bearer x", cookie="a=b").body) == b"all"
                for head in (b"POST /http1 HTTP/1.1\r\nX-Mine: 1\r\nContent-Length: 4\r\n", b"GET /http1 HTTP/1.1\r\n"):
                    body = b"body" if head.startswith(b"POST") else b""
                    other.sendall(head + b"Host: reviews:9080\r\nConnection: keep-alive\r\n\r\n" + body)
                    answer = http.client.HTTPResponse(other)
                    answer.begin()
                    assert answer.read() == b"all"
        assert tasks == []
        secret = next(request for request in server.requests if request.path == "/secret")
        assert (secret.header(b"authorization"), secret.header(b"cookie")) == (b"Bearer x", b"a=b")
        http1 = next(request for request in server.requests if request.path == "/http1")
        assert (bytes(http1.body), http1.header(b"x-mine"), http1.header(b"connection")) == (b"body", b"1", None)
        assert http1.header(b":authority") == b"reviews:9080"
        assert http1.header(b"x-envoy-attempt-count") == b"1"


@pytest.mark.skipif(PLAIN, reason="then all do")
def test_a_websocket_over_http2_is_told_why_it_cannot_be(tasks):
    with H2Server(lambda peer, request: at_once(peer, request, b"all")) as server, Proxy(resources(server)) as proxy:
        with H2Client(proxy.port) as client:
            client.get("/first")
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port)
        wants = {"Host": "reviews:9080", "Connection": "upgrade", "Upgrade": "websocket"}
        connection.request("GET", "/socket", headers=wants)
        assert connection.getresponse().status == 503
        connection.close()
    assert "/socket" in tasks


def test_calls_that_are_counted_are_calls(steps):
    """With ``--max-requests`` somebody stands between a call and its client."""
    settings = ProxySettings(drain=2, most_requests=8)
    with H2Server(status(b"0")) as server, Proxy(resources(server), settings) as proxy, H2Client(proxy.port) as client:
        for _ in range(CALLS):
            answer = call(client, MESSAGE)
            assert (answer.status, answer.body) == (200, MESSAGE)
        assert steps == []
        assert eventually(lambda: proxy.metric("istio_requests_total", response_code="200") == CALLS)
        assert proxy.metric("istio_requests_total") == CALLS


def test_a_line_of_the_access_log_says_from_where_a_call_went_out(tmp_path):
    came_by = []

    def answers(peer, request) -> None:
        came_by.append(peer.sock.getpeername())
        at_once(peer, request, bytes(request.body), [(b"grpc-status", b"0")])

    log = {"access_log": tmp_path / "log", "access_log_format": "%UPSTREAM_LOCAL_ADDRESS%"}
    with H2Server(answers) as server, Proxy(resources(server), **log) as proxy, H2Client(proxy.port) as client:
        for _ in range(CALLS):
            call(client, MESSAGE)
        assert eventually(lambda: proxy.metric("istio_requests_total", response_code="200") == CALLS)
        assert proxy.mesh.flush_access_logs()
    assert (tmp_path / "log").read_text().split() == [f"{ip}:{port}" for ip, port in came_by]


def spares(proxy: Proxy) -> list[Http2Forwarding]:
    return proxy.process.listener.forwarder.http2_spares


@pytest.mark.skipif(PLAIN, reason="then there are none")
def test_one_call_after_another_is_made_with_the_same(steps):
    with H2Server(status(b"0")) as server, Proxy(resources(server)) as proxy, H2Client(proxy.port) as client:
        call(client, MESSAGE)  # makes the connection to the upstream
        made = set()
        while len(steps) < CALLS:
            assert call(client, MESSAGE).body == MESSAGE
            made.update(map(id, spares(proxy)))
        assert len(made) == 1
        assert proxy.metric("istio_requests_total", grpc_response_status="0") >= CALLS


@pytest.mark.skipif(PLAIN, reason="then there are none")
def test_a_spare_keeps_neither_request_nor_response_nor_connection_nor_configuration(steps):
    with H2Server(status(b"0")) as server, Proxy(resources(server)) as proxy, H2Client(proxy.port) as client:
        while not steps:
            call(client, MESSAGE)
        (spare,) = spares(proxy)
        assert [spare._call.live, spare._call.record.virtual_host, spare._call.record.rule_object] == [None] * 3
        assert spare._call.request is None
        assert not hasattr(spare._call, "messages")
        assert (spare._outcome.whole, spare._outcome.headers) == (None, [])
        assert (spare._client, spare._upstream, spare._on) == (None, None, None)


@pytest.mark.skipif(PLAIN, reason="then there are none")
@pytest.mark.parametrize("path", ["/", "/pieces", "/long"])
def test_of_which_configuration_a_call_was_is_said_of_one_that_uses_a_spare(path, steps):
    def answer(peer, request) -> None:
        in_pieces(peer, request) if request.path == "/pieces" else at_once(peer, request, b"all")

    told = []
    with H2Server(answer) as server, Proxy(resources(server)) as proxy, H2Client(proxy.port) as client:
        for _ in range(20):
            client.get("/")
        assert spares(proxy)
        for spare in spares(proxy):
            spare._call.record.version = "that of another"
        core = proxy.process._mesh._core
        core.telemetry.remember = lambda call, now, trace: told.append(call.record)
        if path == "/long":
            call(client, b"x" * 40_000, path)
        else:
            client.get(path)
        assert eventually(lambda: told)
        assert core.live is not None
        assert [record.version for record in told] == [core.live.snapshot.version]


@pytest.mark.skipif(PLAIN, reason="then there are none")
@pytest.mark.parametrize("path", ["/pieces", "/long", "/kept"])
def test_what_is_not_used_again_does_not_refer_to_itself(path, steps):
    """It would stay until the garbage collector comes."""

    def answer(peer, request) -> None:
        in_pieces(peer, request) if request.path == "/pieces" else at_once(peer, request, MESSAGE)

    with H2Server(answer) as server, Proxy(resources(server)) as proxy, H2Client(proxy.port) as client:
        while not steps:
            client.get("/")
        (spare,) = spares(proxy)
        assert spare._wake.__self__ is spare
        if path == "/kept":
            proxy.process._mesh._core.telemetry.remember = lambda call, now, trace: None
        call(client, b"x" * 40_000 if path == "/long" else MESSAGE, path)
        assert spare not in spares(proxy)
        assert spare._wake is None


@pytest.mark.skipif(PLAIN, reason="then there are none")
def test_calls_that_somebody_keeps_are_not_used_again(steps):
    with H2Server(status(b"0")) as server, Proxy(resources(server)) as proxy, H2Client(proxy.port) as client:
        proxy.process._mesh._core.telemetry.remember = lambda call, now, trace: None
        while not steps:
            call(client, MESSAGE)
        assert spares(proxy) == []


def test_a_client_that_leaves_a_response_unread_cancels_no_other_call(steps):
    """What has forwarded it is forwarding another one by then."""
    large = b"x" * 16_000  # four of them leave no room for a fifth
    waiting = []

    def answers(peer, request) -> None:
        if request.path == "/slow":
            waiting.append((peer, request))
        else:
            at_once(peer, request, large)

    with H2Server(answers) as server, Proxy(resources(server)) as proxy, H2Client(proxy.port, reads=False) as client:
        for _ in range(4):
            assert len(client.get("/large").body) == len(large)
        unread = client.open("/large")
        client.until(lambda: client.answers[unread].headers)
        slow = client.open("/slow")
        assert eventually(lambda: waiting)
        client.reset(unread)
        ((peer, request),) = waiting
        at_once(peer, request, b"")
        assert client.answer(slow).status == 200
    assert PLAIN or steps


@pytest.mark.parametrize(
    ("took", "told"), [(0.0, "0"), (0.0125, "12"), (1.0235, "1023"), (1.0245, "1024"), (1.5, "1500")]
)
def test_the_client_is_told_how_long_it_took_by_the_clock_of_the_mesh(took, told, steps):
    clock = FakeClock()

    def answer(peer, request) -> None:
        clock.advance(took)
        at_once(peer, request, MESSAGE, [(b"grpc-status", b"0")])

    with (
        H2Server(answer) as server,
        Proxy(resources(server), clock=clock) as proxy,
        H2Client(proxy.port) as client,
    ):
        for _ in range(CALLS):
            answered = call(client, MESSAGE)
        assert answered.headers["x-envoy-upstream-service-time"] == told
    assert bool(steps) is not PLAIN


@pytest.mark.skipif(PLAIN, reason="then none goes in one step")
def test_nor_is_it_told_where_the_mesh_says_so(steps):
    off = mesh_config(defaultConfig={"proxyHeaders": {"envoyDebugHeaders": {"disabled": True}}})
    with H2Server(status(b"0")) as server, Proxy([*resources(server), off]) as proxy, H2Client(proxy.port) as client:
        while not steps:
            assert "x-envoy-upstream-service-time" not in call(client, MESSAGE).headers


@pytest.mark.skipif(PLAIN, reason="then none goes in one step")
def test_bytes_of_a_request_are_those_of_its_head_and_its_message(steps):
    with H2Server(status(b"0")) as server, Proxy(resources(server)) as proxy, H2Client(proxy.port) as client:
        for _ in range(CALLS):
            call(client, MESSAGE)
        once = proxy.metric("istio_request_bytes_sum", reporter="source") / CALLS
        longer = f"/shop.Catalog/{'x' * 100}"
        for _ in range(CALLS):
            call(client, MESSAGE, longer)
        both = proxy.metric("istio_request_bytes_sum", reporter="source")
        assert steps
        assert both == CALLS * (2 * once + len(longer) - len("/shop.Catalog/Get"))


@pytest.mark.skipif(not PLAIN, reason="with MESHLIB_PLAIN=1")
def test_the_short_way_is_not_begun_where_that_is_said(monkeypatch):
    begun = []
    monkeypatch.setattr(Http2Forwarding, "begin", lambda *_: begun.append(1))
    with H2Server(status(b"0")) as server, Proxy(resources(server)) as proxy, H2Client(proxy.port) as client:
        for _ in range(CALLS):
            assert call(client, MESSAGE).status == 200
    assert not begun

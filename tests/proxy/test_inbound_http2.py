"""HTTP/2 and gRPC that come to the application behind the proxy: by prior knowledge, and by ALPN over mTLS."""

from __future__ import annotations

import contextlib
import json
import threading

import grpc
import httpx
import pytest
from hyperframe.frame import PingFrame

import meshlib
from meshlib.proxy.inbound_hop import Hop
from tests.support.eventually import eventually
from tests.support.grpc_echo import SERVICE as ECHO
from tests.support.grpc_echo import EchoServer as GrpcServer
from tests.support.grpc_echo import Message, stubs
from tests.support.h2_client import H2Client
from tests.support.identities import CLIENT, SERVER, ByHand, World
from tests.support.inbound_policies import authorization_policy, on_paths
from tests.support.inbound_proxy import SERVICE, InboundProxy
from tests.support.mesh_config import mesh_config
from tests.support.peer_authentication import peer_authentication
from tests.support.protection import protection
from tests.support.proxy import Proxy
from tests.support.resources import destination_rule, pod, service
from tests.support.servers import EchoServer
from tests.support.shortcuts import NEEDS_SHORTCUTS

ONLY_PRODUCTPAGE = authorization_policy(
    "only", "ALLOW", {"from": [{"source": {"principals": [CLIENT.removeprefix("spiffe://")]}}]}
)


@pytest.fixture
def app():
    with EchoServer("app") as made:
        yield made


@pytest.fixture
def grpc_app():
    with GrpcServer("app") as made:
        yield made


@pytest.fixture
def world():
    made = World(of_a_mesh=True)
    made.rotate()
    return made


def of_grpc(port):
    """The own service, whose port speaks gRPC."""
    return [service("reviews", ports=[{"name": "grpc", "port": port}]), pod("reviews", "v1", port)]


@contextlib.contextmanager
def called(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield stubs.EchoStub(channel)


# -- HTTP/2 -----------------------------------------------------------------------------------------------------------------


@NEEDS_SHORTCUTS
def test_a_reload_that_fails_at_one_request_counts_from_the_next_one_of_its_connection_on(app, monkeypatch):
    def mode(name):
        return mesh_config(defaultConfig={"proxyHeaders": {"forwardedClientCert": name}})

    with InboundProxy(app.port, mode("ALWAYS_FORWARD_ONLY"), policy_port=9080) as proxy, H2Client(proxy.port) as client:

        def asked():
            answer = client.answer(client.open("/a", x_forwarded_client_cert="By=a"))
            return answer.status, b"By=a" in answer.body

        assert asked() == (200, True)
        usual, failed = Hop.lane_of, []

        def fails_once(*given):
            if not failed:
                failed.append(given)
                raise RuntimeError("a bug")
            return usual(*given)

        monkeypatch.setattr(Hop, "lane_of", fails_once)
        proxy.mesh.apply([*SERVICE, mode("SANITIZE")])
        assert [asked() for _ in range(3)] == [(500, False), (200, False), (200, False)]
        assert failed


def test_requests_of_one_connection_are_served_one_by_one_over_http1(app):
    deny = authorization_policy("deny", "DENY", on_paths("/admin"))
    with InboundProxy(app.port, deny, policy_port=9080) as proxy, H2Client(proxy.port) as client:
        streams = [client.open(path, x_forwarded_client_cert="By=a") for path in ("/a", "/admin", "/b")]
        answers = [client.answer(stream) for stream in streams]
        assert [answer.status for answer in answers] == [200, 403, 200]
        headers = json.loads(answers[0].body)["headers"]
        assert headers["x-forwarded-proto"] == "http"
        assert "x-forwarded-client-cert" not in headers
        assert {answer.headers["server"] for answer in answers} == {"istio-envoy"}
        assert sorted(request["path"] for request in app.seen) == ["/a", "/b"]


def test_a_body_is_counted_and_cut_off_where_it_is_too_long(app):
    with (
        InboundProxy(app.port, protection(maxBodyBytes=100), policy_port=9080) as proxy,
        H2Client(proxy.port) as client,
    ):
        stream = client.open("/", "POST", end=False)
        client.send(stream, b"x" * 64)
        client.send(stream, b"x" * 64, end=True)
        assert client.answer(stream).status == 413
        stream = client.open("/", "POST", end=False)
        client.send(stream, b"x" * 64, end=True)
        assert client.answer(stream).status == 200


def test_a_client_of_the_web_gets_http2_over_mtls_by_alpn(app, world):
    context = world.client(alpn=("h2", "http/1.1"))
    context.check_hostname = False
    with (
        InboundProxy(app.port, ONLY_PRODUCTPAGE, identity=world.identity, policy_port=9080) as proxy,
        httpx.Client(verify=context, http2=True, trust_env=False) as client,
    ):
        response = client.get(f"https://127.0.0.1:{proxy.port}/")
        assert (response.status_code, response.http_version) == (200, "HTTP/2")
        headers = response.json()["headers"]
        assert headers["x-forwarded-proto"] == "https"
        assert headers["x-forwarded-client-cert"].startswith(f"By={SERVER};Hash=")
        assert proxy.metric("istio_requests_total", source_principal=CLIENT, response_code="200") == 1


def test_a_stream_that_its_client_resets_is_counted_as_that(app):
    reset = threading.Event()
    app.behave = lambda handler: not reset.wait(20)
    with InboundProxy(app.port, policy_port=9080) as proxy, H2Client(proxy.port) as client:
        stream = client.open("/")
        assert eventually(lambda: app.seen)
        client.reset(stream)
        assert eventually(lambda: proxy.metric("istio_requests_total", response_code="0", response_flags="DR") == 1)
        reset.set()


def test_a_flood_is_told_as_at_outbound_ports(app, caplog):
    with InboundProxy(app.port, policy_port=9080) as proxy, H2Client(proxy.port) as client:
        client.sock.sendall(PingFrame(0, b"12345678").serialize() * 3000)
        assert eventually(lambda: any("floods" in line for line in caplog.messages))
    (line,) = (record for record in caplog.records if "floods" in record.getMessage())
    assert line.levelname == "WARNING"


# -- gRPC -------------------------------------------------------------------------------------------------------------------


def test_all_four_kinds_of_calls(grpc_app):
    with InboundProxy(grpc_app.port, own=of_grpc(grpc_app.port)) as proxy, called(proxy.port) as echo:
        assert echo.Unary(Message(text="a")).text == "a"
        assert [message.text for message in echo.Expand(Message(text="b", count=3))] == ["b0", "b1", "b2"]
        assert echo.Collect(Message(text=text) for text in "abc").text == "abc"
        chat = echo.Chat(Message(text=text) for text in ("x", "y"))
        assert [message.text for message in chat] == ["x", "y"]
        assert dict(chat.trailing_metadata())["answered-by"] == "app"
        count = {"request_protocol": "grpc", "grpc_response_status": "0", "reporter": "destination"}
        assert eventually(lambda: proxy.metric("istio_requests_total", **count) == 4)
        # unary, expand, collect and chat: 1 + 1 + 3 + 2 of the client, 1 + 3 + 1 + 2 of the server
        assert proxy.metric("istio_request_messages_total", reporter="destination") == 7
        assert proxy.metric("istio_response_messages_total", reporter="destination") == 7


def test_a_chat_goes_both_ways_at_once(grpc_app):
    with InboundProxy(grpc_app.port, own=of_grpc(grpc_app.port)) as proxy, called(proxy.port) as echo:
        answers = []

        def words():
            yield Message(text="first")
            assert eventually(lambda: answers == ["first"])
            yield Message(text="second")

        for message in echo.Chat(words()):
            answers.append(message.text)
        assert answers == ["first", "second"]


def test_an_application_on_a_port_that_nobody_has_declared_is_called_as_its_client_speaks(grpc_app):
    with InboundProxy(grpc_app.port) as proxy, called(proxy.port) as echo:
        assert echo.Unary(Message(text="a")).text == "a"


def test_a_refusal_is_a_status_of_grpc(grpc_app):
    deny = authorization_policy("deny", "DENY", on_paths(f"/{ECHO}/Unary"))
    with InboundProxy(grpc_app.port, deny, own=of_grpc(grpc_app.port)) as proxy, called(proxy.port) as echo:
        with pytest.raises(grpc.RpcError) as raised:
            echo.Unary(Message(text="a"))
        assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert raised.value.details() == "RBAC: access denied"
        assert (len(list(echo.Expand(Message(text="b", count=1)))), len(grpc_app.seen)) == (1, 1)


def test_an_application_that_is_not_there_is_unavailable(grpc_app):
    grpc_app.kill()
    with InboundProxy(grpc_app.port, own=of_grpc(grpc_app.port)) as proxy, called(proxy.port) as echo:
        with pytest.raises(grpc.RpcError) as raised:
            echo.Unary(Message(text="a"))
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert proxy.metric("istio_requests_total", grpc_response_status="14", response_flags="UF,URX") == 1


def test_from_proxy_to_proxy_over_mtls(grpc_app, world):
    source = ByHand()
    source.publish(world.root.issue(CLIENT, world.now, ttl=86400), world.bundles(world.root))
    strict = peer_authentication("default", "STRICT")
    with InboundProxy(
        grpc_app.port, strict, ONLY_PRODUCTPAGE, own=of_grpc(grpc_app.port), identity=world.identity
    ) as inbound:
        there = pod("reviews", "v1", inbound.port)
        there["spec"]["serviceAccountName"] = "reviews"
        mesh = [
            service("reviews", ports=[{"name": "grpc", "port": 9080, "targetPort": inbound.port}]),
            there,
            destination_rule("reviews", tls={"mode": "ISTIO_MUTUAL"}),
        ]
        with Proxy(mesh, identity=meshlib.Identity(source), workload=meshlib.Workload("productpage")) as outbound:
            options = [("grpc.default_authority", "reviews:9080")]
            with grpc.insecure_channel(f"127.0.0.1:{outbound.port}", options=options) as channel:
                echo = stubs.EchoStub(channel)
                found = echo.Unary(Message(text="a")).metadata
                assert found["x-forwarded-client-cert"].endswith(f'Subject="";URI={CLIENT}')
                assert [message.text for message in echo.Chat(Message(text=text) for text in "ab")] == ["a", "b"]
                assert eventually(lambda: inbound.listener.acceptor.counts["tls"] == 1)

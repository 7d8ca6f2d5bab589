"""Connections that come to the application behind the proxy: TLS and plain text on one port, who their peers are, and until
when they stand."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import ssl

import pytest

from meshlib.security.authority import Authority
from meshlib.security.trust_bundles import TrustBundles
from tests.support.eventually import eventually
from tests.support.identities import CLIENT, SERVER, World
from tests.support.inbound_policies import authorization_policy
from tests.support.inbound_proxy import InboundProxy
from tests.support.mesh_config import mesh_config
from tests.support.peer_authentication import peer_authentication
from tests.support.resources import pod, service
from tests.support.servers import EchoServer

RATINGS = "spiffe://cluster.local/ns/default/sa/ratings"
ONLY_PRODUCTPAGE = authorization_policy(
    "only", "ALLOW", {"from": [{"source": {"principals": [CLIENT.removeprefix("spiffe://")]}}]}
)


@pytest.fixture
def app():
    with EchoServer("app") as made:
        yield made


@pytest.fixture
def world():
    made = World(of_a_mesh=True)
    made.rotate()
    return made


def strict(mode="STRICT"):
    return peer_authentication("default", mode)


def wrapped(context, session=None, name="reviews"):
    context.check_hostname = False
    return lambda sock: context.wrap_socket(sock, server_hostname=name, session=session)


def headers(response):
    return json.loads(response.body)["headers"]


def resumed(proxy, context, session):
    with proxy.client(wrapped(context, session)) as client:
        return client.get()


def told(proxy, world, context=None, *lines):
    with proxy.client(wrapped(context or world.client())) as client:
        return client.get("/", "GET", "reviews", *lines)


# -- TLS and plain text --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "over_mtls", "in_plain_text"), [("STRICT", True, False), ("PERMISSIVE", True, True)])
def test_one_port_takes_what_peer_authentication_allows(app, world, mode, over_mtls, in_plain_text):
    with InboundProxy(app.port, strict(mode), identity=world.identity) as proxy:
        assert told(proxy, world).status == 200
        with proxy.client() as client:
            if in_plain_text:
                assert client.get().status == 200
            else:
                with pytest.raises(ConnectionResetError):
                    client.get()
        assert len(app.seen) == 1 + in_plain_text


def test_where_mtls_is_disabled_tls_is_not_http(app, world):
    with InboundProxy(app.port, strict("DISABLE"), identity=world.identity) as proxy:
        with proxy.client() as client:
            assert client.get().status == 200
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            told(proxy, world)


def test_the_mode_is_that_of_the_applications_port(app, world):
    modes = peer_authentication("default", "STRICT", app="reviews")
    modes["spec"]["portLevelMtls"] = {"9080": {"mode": "PERMISSIVE"}}
    with (
        InboundProxy(app.port, modes, identity=world.identity, policy_port=9080) as proxy,
        proxy.client() as client,
    ):
        assert client.get().status == 200
    with InboundProxy(app.port, modes, identity=world.identity) as proxy, proxy.client() as client:
        with pytest.raises(ConnectionResetError):
            client.get()


def test_without_a_certificate_of_its_own_nothing_comes_in_under_strict_and_that_is_said(app, caplog):
    with InboundProxy(app.port, strict()) as proxy, proxy.client() as client:
        with pytest.raises(ConnectionResetError):
            client.get()
        (said,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert said.startswith(
            f"127.0.0.1:{app.port} is not served: PeerAuthentication says STRICT for port {app.port} and"
        )
        assert "Give --cert, --key and --bundle" in said
        assert proxy.listener.why_not_ready().endswith("the proxy has no certificate")


def test_why_it_is_not_ready_is_for_probes_to_ask(app, world):
    with InboundProxy(app.port, strict(), identity=world.identity) as proxy:
        assert proxy.listener.why_not_ready() == ""
        proxy.mesh.close()
        assert proxy.listener.why_not_ready() == "the mesh is closed"


def test_a_client_without_a_certificate_is_not_spoken_to(app, world):
    with InboundProxy(app.port, identity=world.identity) as proxy:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            told(proxy, world, world.stranger())
        assert app.seen == []


# -- who it is -----------------------------------------------------------------------------------------------


def test_the_application_learns_whose_certificate_it_was(app, world):
    with InboundProxy(app.port, identity=world.identity) as proxy:
        found = headers(told(proxy, world))
        assert found["x-forwarded-proto"] == "https"
        element = rf'By={SERVER};Hash=[0-9a-f]{{64}};Subject="";URI={CLIENT}'
        assert re.fullmatch(element, found["x-forwarded-client-cert"])
        chain = headers(told(proxy, world, None, "x-forwarded-client-cert: By=a;URI=b"))["x-forwarded-client-cert"]
        assert re.fullmatch(f"By=a;URI=b,{element}", chain)
        with proxy.client() as client:
            plain = headers(client.get("/", "GET", "reviews", f"x-forwarded-client-cert: URI={CLIENT}"))
        assert "x-forwarded-client-cert" not in plain


def test_a_certificate_that_no_root_of_its_own_trust_domain_has_signed_is_not_told_of(app, world):
    other = Authority.root("other.org", world.now)
    bundles = {"cluster.local": (world.root.root_der,), "other.org": (other.root_der,)}
    world.source.publish(world.root.issue(SERVER, world.now, ttl=86400), TrustBundles(bundles))
    claims = dataclasses.replace(other, trust_domain="cluster.local")  # to be who it is not
    context = world.client(claims)
    with InboundProxy(app.port, identity=world.identity) as proxy:
        found = headers(told(proxy, world, context, "x-forwarded-client-cert: By=a"))
        assert "x-forwarded-client-cert" not in found
        assert "x-forwarded-client-cert" in headers(told(proxy, world))


def test_mesh_config_may_have_it_otherwise(app, world):
    mesh = mesh_config(
        defaultConfig={
            "proxyHeaders": {
                "forwardedClientCert": "SANITIZE_SET",
                "setCurrentClientCertDetails": {"subject": False, "uri": False, "cert": True},
            }
        }
    )
    with InboundProxy(app.port, mesh, identity=world.identity) as proxy:
        found = headers(told(proxy, world, None, "x-forwarded-client-cert: By=a"))["x-forwarded-client-cert"]
    assert re.fullmatch(rf'By={SERVER};Hash=[0-9a-f]{{64}};Cert="-----BEGIN%20CERTIFICATE.*%0A"', found)


def test_authorization_goes_by_the_identity_of_the_certificate(app, world):
    with InboundProxy(app.port, ONLY_PRODUCTPAGE, identity=world.identity) as proxy:
        assert told(proxy, world).status == 200
        assert told(proxy, world, world.client(name=RATINGS)).status == 403
        with proxy.client() as client:
            spoofed = client.get("/", "GET", "reviews", f"x-forwarded-client-cert: URI={CLIENT}")
            assert spoofed.status == 403
        assert len(app.seen) == 1
        count = {"response_code": "403", "connection_security_policy": "mutual_tls", "source_principal": RATINGS}
        assert proxy.metric("istio_requests_total", **count) == 1


def test_authorization_goes_by_the_name_that_tls_was_asked_for(app, world):
    rule = authorization_policy("sni", "DENY", {"when": [{"key": "connection.sni", "values": ["secret"]}]})
    with InboundProxy(app.port, rule, identity=world.identity) as proxy:
        for name, status in (("reviews", 200), ("secret", 403)):
            with proxy.client(wrapped(world.client(), name=name)) as client:
                assert client.get().status == status


# -- TLS itself ----------------------------------------------------------------------------------------------


def test_a_client_of_istio_and_one_of_the_web_are_understood(app, world):
    with InboundProxy(app.port, identity=world.identity) as proxy:
        for offered, chosen in ((("http/1.1",), "http/1.1"), (("istio-peer-exchange", "istio"), None)):
            with proxy.client(wrapped(world.client(alpn=offered))) as client:
                assert client.get().status == 200
                assert client.sock.selected_alpn_protocol() == chosen


def test_sessions_resume_and_are_the_same_peer(app, world):
    context = world.client()
    with InboundProxy(app.port, ONLY_PRODUCTPAGE, identity=world.identity) as proxy:
        with proxy.client(wrapped(context)) as client:
            assert client.get().status == 200
            session = client.sock.session
        with proxy.client(wrapped(context, session)) as client:
            assert client.sock.session_reused
            assert client.get().status == 200


def test_a_new_certificate_counts_from_the_next_connection_on(app, world):
    with InboundProxy(app.port, identity=world.identity) as proxy:
        with proxy.client(wrapped(world.client())) as old:
            assert old.get().status == 200
            svid = world.rotate()
            assert old.get().status == 200
            with proxy.client(wrapped(world.client())) as new:
                assert new.sock.getpeercert(True) == svid.leaf


def test_a_connection_whose_root_is_dropped_ends_and_its_session_resumes_nowhere(app, world):
    context = world.client()
    with InboundProxy(app.port, identity=world.identity) as proxy, proxy.client(wrapped(context)) as client:
        assert client.get().status == 200
        session = client.sock.session
        world.root = Authority.root("cluster.local", world.now)
        world.rotate(world.root)
        assert client.closed()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            resumed(proxy, context, session)


def test_connections_that_come_and_go_leave_nothing_behind(app, world):
    with InboundProxy(app.port, identity=world.identity) as proxy:
        context = world.client()
        for number in range(40):
            if number % 2:
                with proxy.client(wrapped(context)) as client:
                    assert client.get().status == 200
            else:
                proxy.client().sock.close()
        for _ in range(20):
            with proxy.client() as client, contextlib.suppress(ssl.SSLError, OSError):
                client.sock = wrapped(world.stranger())(client.sock)
        acceptor = proxy.listener.acceptor
        assert eventually(lambda: proxy.listener.connections == acceptor.waiting == 0)
        assert eventually(lambda: proxy.on_loop(lambda: len(proxy.listener.connections_over_tls)) == 0)
        assert acceptor.counts["tls"] == 20


# -- the end -------------------------------------------------------------------------------------------------


def test_it_drains_as_the_outbound_side_does(app, world):
    with InboundProxy(app.port, identity=world.identity) as proxy, proxy.client(wrapped(world.client())) as client:
        assert client.get().header("connection") is None
        proxy.stop()
        assert client.closed()


def test_a_request_that_is_none_is_refused_before_policies(app):
    with InboundProxy(app.port) as proxy, proxy.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        assert client.response().status == 400
        assert (proxy.listener.refusals, app.seen) == ({400: 1}, [])


def test_a_bug_before_a_request_is_served_is_500_and_lets_nobody_in(app, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("lines that cannot be")

    with InboundProxy(app.port) as proxy, proxy.client() as client:
        monkeypatch.setattr("meshlib.proxy.inbound_listener.at_the_sidecar", broken)
        assert client.get().status == 500
        assert (proxy.listener.refusals, app.seen) == ({500: 1}, [])
    assert "a fault of meshlib, please report it" in caplog.text


def test_behind_a_service_of_another_port_policies_see_the_applications_and_metrics_the_service(app):
    own = [
        service("reviews", ports=[{"name": "http", "port": 80, "targetPort": 15006}]),
        pod("reviews", "v1", 15006),
    ]
    denied = authorization_policy(
        "denied", "DENY", {"to": [{"operation": {"ports": [str(app.port)], "paths": ["/no"]}}]}
    )
    others = authorization_policy("others", "DENY", {"to": [{"operation": {"ports": ["80", "15006"]}}]})
    with InboundProxy(app.port, denied, others, own=own) as proxy, proxy.client() as client:
        assert client.get("/yes", "GET", "reviews").status == 200
        assert client.get("/no", "GET", "reviews:80").status == 403
        labels = {"destination_service": "reviews.default.svc.cluster.local", "reporter": "destination"}
        assert proxy.metric("istio_requests_total", **labels) == 2
    assert headers_of(app)[0]["host"] == "reviews"


def headers_of(app):
    return [each["headers"] for each in app.seen]

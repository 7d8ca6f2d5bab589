"""Requests that come to a gateway in plain text: by whose routes they go, what they say of their client, who refuses them."""

from __future__ import annotations

import json
import re
import time

import pytest

import meshlib
from meshlib.transport.protocol.shortcuts import PLAIN
from tests.support.eventually import eventually
from tests.support.gateway_proxy import INGRESS, Gateway, gateway, server
from tests.support.inbound_policies import authorization_policy
from tests.support.mesh_config import mesh_config
from tests.support.peer_authentication import peer_authentication
from tests.support.rate_limits import bucket, insert, local
from tests.support.resources import service_entry, to, virtual_service
from tests.support.servers import EchoServer
from tests.support.tokens import issuer

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[49ab][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


@pytest.fixture
def app():
    with EchoServer("app") as made:
        yield made


def backend(app, host="app.internal.test"):
    return service_entry(
        "app",
        host,
        ports=[{"number": 8000, "name": "http", "protocol": "HTTP"}],
        resolution="STATIC",
        endpoints=[{"address": "127.0.0.1", "ports": {"http": app.port}}],
    )


def bound(*hosts, name="shop", gateways=("gw",), **rule):
    return virtual_service(
        name,
        {"route": [to("app.internal.test", port=8000)], **rule},
        hosts=list(hosts),
        gateways=list(gateways),
    )


def headers(response):
    assert response.status == 200, response.status
    return json.loads(response.body)["headers"]


def test_a_request_goes_where_the_virtual_services_of_the_gateway_say(app):
    with Gateway(backend(app), gateway(server("shop.test")), bound("shop.test")) as gw:
        response = gw.get("shop.test", "/cart?q=1")
        assert (response.status, json.loads(response.body)["path"]) == (200, "/cart?q=1")
        assert response.header("server") == "istio-envoy"
        assert gw.get("shop.test:8080", "/").status == 200, "the port of Host is ignored"


def test_a_host_that_no_virtual_service_of_the_gateway_has_is_404(app):
    with Gateway(
        backend(app),
        gateway(server("*.test")),
        bound("shop.test", match=[{"uri": {"prefix": "/cart"}}]),
        bound("mesh.test", name="in-mesh", gateways=["mesh"]),
    ) as gw:
        assert gw.get("other.test").status == 404
        assert gw.get("mesh.test").status == 404
        assert gw.get("shop.test", "/elsewhere").status == 404
        assert gw.get("app.internal.test").status == 404, "a gateway does not lead into the mesh by itself"
        assert gw.get("shop.test", "/cart").status == 200
        assert gw.metric("istio_requests_total", reporter="source", response_code="404", response_flags="NR") == 4


def test_a_name_with_a_final_dot_is_another_name_as_in_envoy(app):
    with Gateway(backend(app), gateway(server("shop.test", "*.shop.test")), bound("shop.test")) as gw:
        assert gw.get("shop.test.").status == 404
        assert gw.get("shop.test.:80").status == 404
        assert gw.get("shop.test").status == 200
    with Gateway(backend(app), gateway(server("*")), bound("*")) as gw:
        assert gw.get("shop.test.").status == 200, "any name is any"


def test_calls_are_told_as_a_caller_tells_them(app):
    with Gateway(backend(app), gateway(server("*")), bound("shop.test")) as gw:
        gw.get("shop.test")
        assert eventually(lambda: gw.metric("istio_requests_total") == 1)
        assert gw.metric("istio_requests_total", reporter="source", source_workload="ingress", response_code="200") == 1
        assert gw.metric("istio_requests_total", reporter="destination") == 0


# -- the edge ------------------------------------------------------------------------------------------------


def test_the_client_is_who_has_connected_whatever_it_says(app):
    with Gateway(backend(app), gateway(server("*")), bound("shop.test")) as gw:
        told = headers(
            gw.get(
                "shop.test",
                "/",
                "x-forwarded-for: 1.2.3.4",
                "x-forwarded-proto: https",
                "x-envoy-external-address: 1.2.3.4",
                "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/default/sa/admin",
                "x-request-id: mine",
                "x-envoy-decorator-operation: op",
                "x-envoy-upstream-rq-timeout-ms: 1",
            )
        )
        assert told["x-forwarded-for"] == "1.2.3.4,127.0.0.1"
        assert told["x-forwarded-proto"] == "http"
        assert told["x-envoy-external-address"] == "127.0.0.1"
        assert UUID.fullmatch(told["x-request-id"])
        assert "x-forwarded-client-cert" not in told
        assert not {"x-envoy-decorator-operation", "x-envoy-upstream-rq-timeout-ms"} & told.keys()


@pytest.mark.parametrize("lines", [(), ("x-envoy-attempt-count: 9",)])
def test_without_the_number_of_the_attempt_a_clients_own_goes_on_as_by_envoy(app, lines):
    mesh = mesh_config(defaultConfig={"proxyHeaders": {"attemptCount": {"disabled": True}}})
    with Gateway(backend(app), gateway(server("*")), bound("shop.test"), mesh) as gw:
        for _ in range(2):  # on a new connection, and on one that is there
            told = headers(gw.get("shop.test", "/", *lines))
            assert told.get("x-envoy-attempt-count") == ("9" if lines else None)


@pytest.mark.parametrize("lines", [(), ("x-envoy-attempt-count: 9",)])
def test_which_attempt_a_request_is_the_gateway_says(app, lines):
    with Gateway(backend(app), gateway(server("*")), bound("shop.test")) as gw:
        assert headers(gw.get("shop.test", "/", *lines))["x-envoy-attempt-count"] == "1"


def test_trusted_proxies_say_who_the_client_is(app):
    config = mesh_config(defaultConfig={"gatewayTopology": {"numTrustedProxies": 2}})
    only = authorization_policy("only", "ALLOW", {"from": [{"source": {"remoteIpBlocks": ["7.7.7.7"]}}]})
    only["spec"]["selector"] = {"matchLabels": {"istio": "ingress"}}
    with Gateway(config, only, backend(app), gateway(server("*")), bound("shop.test")) as gw:
        told = headers(
            gw.get("shop.test", "/", "x-forwarded-for: 6.6.6.6, 7.7.7.7,8.8.8.8", "x-forwarded-proto: https")
        )
        assert told["x-envoy-external-address"] == "7.7.7.7"
        assert told["x-forwarded-for"] == "6.6.6.6, 7.7.7.7,8.8.8.8,127.0.0.1"
        assert told["x-forwarded-proto"] == "https"
        assert gw.get("shop.test", "/", "x-forwarded-for: 7.7.7.7").status == 403, "fewer than trusted: the connection"


def test_the_port_that_a_client_has_come_to_is_told_where_mesh_config_says_so(app):
    mesh = mesh_config(defaultConfig={"proxyHeaders": {"xForwardedPort": {"enabled": True}}})
    with Gateway(mesh, backend(app), gateway(server("shop.test")), bound("shop.test")) as gw:
        told = headers(gw.get("shop.test", "/", "x-forwarded-port: 1"))
        assert told["x-forwarded-port"] == str(gw.port(80))
    with Gateway(backend(app), gateway(server("shop.test")), bound("shop.test")) as gw:
        assert "x-forwarded-port" not in headers(gw.get("shop.test", "/"))


def test_http_is_sent_to_https_unless_a_trusted_proxy_has_spoken_it(app):
    config = mesh_config(defaultConfig={"gatewayTopology": {"numTrustedProxies": 1}})
    resources = backend(app), gateway(server("shop.test", tls={"httpsRedirect": True})), bound("shop.test")
    with Gateway(*resources) as gw:
        response = gw.get("shop.test", "/cart?q=1", "x-forwarded-proto: https")
        assert (response.status, response.header("location")) == (301, "https://shop.test/cart?q=1")
    with Gateway(config, *resources) as gw:
        assert gw.get("shop.test", "/", "x-forwarded-proto: https").status == 200
        assert gw.get("shop.test").status == 301


# -- policies ------------------------------------------------------------------------------------------------


def test_policies_that_select_the_gateway_refuse_before_anything_is_routed(app):
    deny = authorization_policy("deny", "DENY", {"to": [{"operation": {"paths": ["/admin*"]}}]})
    deny["spec"]["selector"] = {"matchLabels": {"istio": "ingress"}}
    with Gateway(backend(app), deny, gateway(server("*")), bound("shop.test")) as gw:
        refused = gw.get("shop.test", "/admin/x")
        assert (refused.status, refused.body) == (403, b"RBAC: access denied")
        assert refused.header("server") == "istio-envoy"
        assert gw.get("shop.test", "/%61dmin").status == 403
        assert gw.get("shop.test", "/").status == 200
        assert len(app.seen) == 1
        assert gw.metric("istio_requests_total", reporter="source", response_code="403") == 2


def test_policies_for_other_workloads_do_not_act(app):
    deny = authorization_policy("deny", "DENY", {"to": [{"operation": {"paths": ["*"]}}]})
    deny["spec"]["selector"] = {"matchLabels": {"app": "reviews"}}
    with Gateway(backend(app), deny, gateway(server("*")), bound("shop.test")) as gw:
        assert gw.get("shop.test").status == 200


# -- reloads -------------------------------------------------------------------------------------------------


def test_a_reload_changes_routes_of_connections_that_are_open(app):
    resources = [backend(app), gateway(server("*")), bound("shop.test")]
    with Gateway(*resources) as gw, gw.client() as client:
        assert client.get("/", "GET", "shop.test").status == 200
        gw.mesh.apply([*resources[:2], bound("new.test")])
        assert client.get("/", "GET", "shop.test").status == 404
        assert client.get("/", "GET", "new.test").status == 200


def test_a_body_and_its_response_go_through(app):
    with Gateway(backend(app), gateway(server("*")), bound("shop.test")) as gw, gw.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200000)
        assert len(json.loads(client.response().body)["body"]) == 200000


def test_strict_peer_authentication_is_not_for_gateways(app):
    strict = peer_authentication("default", "STRICT", namespace="istio-system")
    with Gateway(backend(app), strict, gateway(server("*")), bound("shop.test")) as gw:
        assert gw.get("shop.test").status == 200


GATEWAY_API = {"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "public"}
NAMED = meshlib.Workload("ingress", labels={"istio": "ingress", "gateway.networking.k8s.io/gateway-name": "public"})


@pytest.mark.parametrize(("workload", "status"), [(NAMED, 403), (INGRESS, 200)])
def test_policies_may_name_the_gateway(app, workload, status):
    deny = authorization_policy("deny", "DENY", {}, targetRefs=[GATEWAY_API])
    with Gateway(backend(app), deny, gateway(server("*")), bound("shop.test"), workload=workload) as gw:
        assert gw.get("shop.test").status == status


def test_tokens_are_demanded_and_routed_by_at_the_edge(app):
    who = issuer("ES256")
    tokens = {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "jwt", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"istio": "ingress"}},
            "jwtRules": [{"issuer": "us", "jwks": who.jwks(), "forwardOriginalToken": True}],
        },
    }
    of_group = {"headers": {"@request.auth.claims[Groups]": {"exact": "admin"}}}
    with Gateway(backend(app), tokens, gateway(server("*")), bound("shop.test", match=[of_group])) as gw:

        def status(claims):
            token = who.token({"iss": "us", "exp": time.time() + 60, **claims})
            return gw.get("shop.test", "/", f"authorization: Bearer {token}").status

        assert status({"Groups": ["user", "admin"]}) == 200
        assert status({"Groups": "admin"}) == 200
        assert status({"Groups": ["user"]}) == 404
        assert status({}) == 404
        assert gw.get("shop.test").status == 404
        assert gw.get("shop.test", "/", "authorization: Bearer x.y.z").status == 401


def test_limits_are_those_of_filters_for_gateways(app):
    filters = {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "limits", "namespace": "default"},
        "spec": {
            "workloadSelector": {"labels": {"istio": "ingress"}},
            "configPatches": [
                insert(local(bucket(2)), context="GATEWAY"),
                insert(local(bucket(1)), context="SIDECAR_INBOUND"),
            ],
        },
    }
    with Gateway(backend(app), filters, gateway(server("*")), bound("shop.test")) as gw:
        assert [gw.get("shop.test").status for _ in range(3)] == [200, 200, 429]
        (notice,) = [p for p in gw.mesh.problems if p.code == "no-effect"]
        assert "context SIDECAR_INBOUND: what acts here is of a gateway (GATEWAY)" in notice.message


# -- the short way -------------------------------------------------------------------------------------------


def whole(handler):
    """The response in one write: one that comes in two is none that is passed on at once."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nserver: app\r\ncontent-length: 2\r\n\r\nhi")
    return True


def let_in(where="/cart*"):
    made = authorization_policy("some", "ALLOW", {"to": [{"operation": {"paths": [where]}}]})
    made["spec"]["selector"] = {"matchLabels": {"istio": "ingress"}}
    return made


@pytest.mark.skipif(PLAIN, reason="MESHLIB_PLAIN=1: all requests go the long way")
@pytest.mark.parametrize("policies", [(), (let_in(),)])
def test_what_is_let_in_and_needs_no_more_than_a_connection_that_is_there_is_forwarded_with_the_same_objects(policies):
    with (
        EchoServer("app", behave=whole) as app,
        Gateway(backend(app), *policies, gateway(server("*")), bound("shop.test")) as gw,
        gw.client() as client,
    ):
        assert client.get("/cart", "GET", "shop.test").status == 200  # and a connection to the upstream is there
        (spares,) = [listener.forwarder.spares for listener in gw.process._listeners.values()]
        made = set()
        for _ in range(3):
            response = client.get("/cart", "GET", "shop.test")
            assert (response.status, response.body, response.header("server")) == (200, b"hi", "istio-envoy")
            assert response.header("x-envoy-upstream-service-time") is not None
            assert eventually(lambda: len(spares) == 1)
            made.add(id(spares[0]))
        assert len(made) == 1
        assert eventually(lambda: gw.metric("istio_requests_total", response_code="200") == 4)


@pytest.mark.parametrize("lines", [b"", b"grpc-timeout: 9S\r\n"])
def test_a_policy_is_asked_once_whichever_way_a_request_goes(lines):
    limits = {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "limits", "namespace": "default"},
        "spec": {
            "workloadSelector": {"labels": {"istio": "ingress"}},
            "configPatches": [insert(local(bucket(2)), context="GATEWAY")],
        },
    }
    with (
        EchoServer("app", behave=whole) as app,
        Gateway(backend(app), limits, let_in(), gateway(server("*")), bound("shop.test")) as gw,
    ):
        found = []
        for _ in range(3):
            with gw.client() as client:
                client.send(b"GET /cart HTTP/1.1\r\nHost: shop.test\r\n%b\r\n" % lines)
                found.append(client.response().status)
        assert found == [200, 200, 429]


def test_a_request_that_a_policy_lets_in_and_no_rule_is_for_is_404(app):
    with Gateway(backend(app), let_in("*"), gateway(server("*")), bound("shop.test")) as gw, gw.client() as client:
        assert client.get("/", "GET", "other.test").status == 404
        assert client.get("/", "GET", "shop.test").status == 200


def test_a_request_waits_for_a_mesh_that_is_not_ready_whichever_way_it_would_have_gone(app):
    """What makes exchanges of calls may be another one."""
    with Gateway(backend(app), gateway(server("*")), bound("shop.test")) as gw, gw.client() as client:
        assert client.get("/", "GET", "shop.test").status == 200  # and a connection to the upstream is there
        core, asked = gw.mesh._core, []
        usual = core.exchange_of
        core.exchange_of = lambda call, brief=False: asked.append(call.request.path) or usual(call, brief)
        assert client.get("/again", "GET", "shop.test").status == 200
        assert asked == ["/again"]


def test_hosts_that_were_asked_for_before_are_those_of_the_newest_configuration(app):
    resources = [backend(app), gateway(server("*.test")), bound("a.test", "b.test")]
    with Gateway(*resources) as gw, gw.client() as client:
        for host, status in (("a.test", 200), ("b.test:8080", 200), ("a.test", 200), ("c.test", 404), ("c.test", 404)):
            assert client.get("/", "GET", host).status == status, host
        gw.mesh.apply([*resources[:2], bound("b.test", "c.test")])
        for host, status in (("a.test", 404), ("b.test:8080", 200), ("c.test", 200)):
            assert client.get("/", "GET", host).status == status, host

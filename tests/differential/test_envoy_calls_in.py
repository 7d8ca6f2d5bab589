"""A real Envoy, set as the outbound side of Istio's sidecar, calls the inbound side of ``meshlib proxy`` over mTLS: with the
protocols that Istio offers in ALPN, over HTTP/1.1 and HTTP/2, and believing nobody but our SPIFFE ID."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

import meshlib
from tests.differential.envoy_process import cluster, free_port, require_envoy, running
from tests.differential.inbound_envoy import ask, listener
from tests.support.credential_files import Files
from tests.support.identities import CLIENT, SERVER, ByHand, World
from tests.support.inbound_policies import authorization_policy
from tests.support.inbound_proxy import InboundProxy
from tests.support.peer_authentication import peer_authentication
from tests.support.servers import EchoServer

TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
ONLY_PRODUCTPAGE = authorization_policy(
    "only", "ALLOW", {"from": [{"source": {"principals": [CLIENT.removeprefix("spiffe://")]}}]}
)
KINDS = {
    "http1": (["istio-peer-exchange", "istio"], {}),
    "http1, its own name": (["istio-http/1.1", "istio", "http/1.1"], {}),
    "http2": (["istio-peer-exchange", "istio", "h2"], {"http2_protocol_options": {}}),
}


def upstream(
    name: str, port: int, files: Files, alpn: list[str], explicit: dict[str, Any], server: str
) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if explicit:
        more["typed_extension_protocol_options"] = {
            HTTP: {"@type": f"type.googleapis.com/{HTTP}", "explicit_http_config": explicit}
        }
    context = {
        "@type": TLS,
        "sni": "outbound_.9080_._.reviews.default.svc.cluster.local",
        "common_tls_context": {
            "alpn_protocols": alpn,
            "tls_certificates": [
                {"certificate_chain": {"filename": str(files.certificate)}, "private_key": {"filename": str(files.key)}}
            ],
            "validation_context": {
                "trusted_ca": {"filename": str(files.bundle)},
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": server}}],
            },
        },
    }
    socket = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    return cluster(name, [port], transport_socket=socket, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_envoy_is_let_in_as_who_it_is(kind: str, tmp_path: Any):
    require_envoy()
    world = World()
    svid = world.rotate()
    source = ByHand()
    source.publish(svid, world.bundles())
    files = Files(tmp_path)
    files.write(world.root.issue(CLIENT, world.now, ttl=86400), world.root)
    alpn, explicit = KINDS[kind]
    strict = peer_authentication("default", "STRICT")
    with (
        EchoServer("app") as app,
        InboundProxy(app.port, strict, ONLY_PRODUCTPAGE, identity=meshlib.Identity(source), policy_port=9080) as proxy,
    ):
        admin, right, wrong = free_port(), free_port(), free_port()
        config = {
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
            "static_resources": {
                "listeners": [
                    listener("right", right, {}, None, {"cluster": "right"}),
                    listener("wrong", wrong, {}, None, {"cluster": "wrong"}),
                ],
                "clusters": [
                    upstream("right", proxy.port, files, alpn, explicit, SERVER),
                    upstream("wrong", proxy.port, files, alpn, explicit, CLIENT),
                ],
            },
        }
        with running(config, admin):
            request = b"POST /a HTTP/1.1\r\nHost: reviews:9080\r\ncontent-length: 3\r\n\r\nabc"
            head, body = ask(right, request)
            assert head.startswith(b"HTTP/1.1 200"), (head, body)
            seen = json.loads(body)
            assert (seen["path"], seen["body"]) == ("/a", "abc")
            element = rf'By={SERVER};Hash=[0-9a-f]{{64}};Subject="";URI={CLIENT}'
            assert re.fullmatch(element, seen["headers"]["x-forwarded-client-cert"])
            head, _ = ask(wrong, request)
            assert head.startswith(b"HTTP/1.1 503")
            assert len(app.seen) == 1

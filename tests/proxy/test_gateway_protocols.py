"""What clients of a gateway may speak: HTTP/2, gRPC and WebSockets, in plain text and over TLS; and what its access log has."""

from __future__ import annotations

import logging

import grpc
import httpx
import pytest
from websockets.sync.client import connect

from tests.support.eventually import eventually
from tests.support.gateway_certificates import certificate_pem, client, leaf, root, tls_secret
from tests.support.gateway_proxy import Gateway, gateway, server
from tests.support.grpc_echo import EchoServer as GrpcServer
from tests.support.grpc_echo import Message, stubs
from tests.support.mesh_config import mesh_config
from tests.support.resources import service_entry, to, virtual_service
from tests.support.servers import EchoServer
from tests.support.websockets import EchoSocket

SHOP = leaf("shop.test")
SERVERS = [
    server("shop.test"),
    server("shop.test", port=443, protocol="HTTPS", tls={"mode": "SIMPLE", "credentialName": "shop"}),
]
LINE = (
    "%REQ(:METHOD)% %RESPONSE_CODE% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% "
    "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %REQUESTED_SERVER_NAME% %UPSTREAM_CLUSTER%"
)


def resources(port, protocol="HTTP"):
    return [
        tls_secret("shop", SHOP),
        gateway(*SERVERS),
        service_entry(
            "app",
            "app.internal.test",
            ports=[{"number": 8000, "name": "p", "protocol": protocol}],
            resolution="STATIC",
            endpoints=[{"address": "127.0.0.1", "ports": {"p": port}}],
        ),
        virtual_service("shop", {"route": [to("app.internal.test", port=8000)]}, hosts=["shop.test"], gateways=["gw"]),
    ]


def test_http2_is_spoken_over_tls():
    with EchoServer("app") as app, Gateway(*resources(app.port)) as gw:
        transport = httpx.HTTPTransport(verify=client(alpn=("h2",)), http2=True)
        with httpx.Client(transport=transport) as made:
            url = f"https://127.0.0.1:{gw.port(443)}/a"
            told = {"host": "shop.test"}
            found = made.post(url, headers=told, content=b"x" * 100_000, extensions={"sni_hostname": "shop.test"})
            assert (found.status_code, found.http_version) == (200, "HTTP/2")
            assert len(found.json()["body"]) == 100_000
            assert found.json()["headers"]["x-forwarded-proto"] == "https"


@pytest.mark.parametrize("secure", [False, True])
def test_grpc_goes_through_in_both_directions(secure):
    with GrpcServer("app") as app, Gateway(*resources(app.port, "GRPC")) as gw:
        name = [("grpc.default_authority", "shop.test"), ("grpc.ssl_target_name_override", "shop.test")]
        if secure:
            trusts = grpc.ssl_channel_credentials(certificate_pem(root("root")))
            channel = grpc.secure_channel(f"127.0.0.1:{gw.port(443)}", trusts, name[1:])
        else:
            channel = grpc.insecure_channel(f"127.0.0.1:{gw.port()}", name[:1])
        with channel:
            stub = stubs.EchoStub(channel)
            assert stub.Unary(Message(text="hello"), timeout=20).text == "hello"
            talk = [each.text for each in stub.Chat(iter([Message(text="a"), Message(text="b")]), timeout=20)]
            assert talk == ["a", "b"]


def test_websockets_go_through_over_tls():
    with EchoSocket("app") as app, Gateway(*resources(app.port)) as gw:
        sock = gw.client(443, lambda raw: client().wrap_socket(raw, server_hostname="shop.test")).sock
        with connect("ws://shop.test/a", sock=sock) as made:
            assert made.recv() == "hello from app"
            made.send("x" * 70_000)
            assert made.recv() == "x" * 70_000
        assert app.paths == ["/a"]


def lines(caplog) -> list[str]:
    """Of the access log, whoever else has something to say."""
    return [record.message for record in caplog.records if record.name == "tests.gateway"]


def test_the_access_log_says_who_the_client_is(caplog):
    log = logging.getLogger("tests.gateway")
    caplog.set_level(logging.INFO, log.name)
    trusting = mesh_config(defaultConfig={"gatewayTopology": {"numTrustedProxies": 1}})
    logged = {"access_log": log, "access_log_format": LINE}
    with EchoServer("app") as app, Gateway(trusting, *resources(app.port), **logged) as gw:
        gw.get("shop.test", "/", "x-forwarded-for: 1.2.3.4")
        with gw.client(443, lambda raw: client().wrap_socket(raw, server_hostname="shop.test")) as made:
            made.get("/", "PUT", "shop.test")
        assert eventually(lambda: len(lines(caplog)) == 2)
    assert lines(caplog) == [
        "GET 200 1.2.3.4 127.0.0.1 127.0.0.1 - outbound|8000||app.internal.test",
        "PUT 200 127.0.0.1 127.0.0.1 127.0.0.1 shop.test outbound|8000||app.internal.test",
    ]

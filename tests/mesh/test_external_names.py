"""Calls to services of type ExternalName reach what they stand for, with its policies."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import trustme

import meshlib
from tests.mesh.test_headless import runtime  # noqa: F401
from tests.mesh.test_http_client import Caller
from tests.support.evil_server import OK, EvilServer
from tests.support.grpc_echo import EchoServer as GrpcServer
from tests.support.grpc_runtimes import RUNTIMES as GRPC_RUNTIMES
from tests.support.resources import destination_rule, pod, service, virtual_service
from tests.support.servers import EchoServer


def external(name: str, target: str, port: int) -> dict[str, Any]:
    return service(name, port, type="ExternalName", externalName=target, selector=None)


def test_an_alias_of_a_service_reaches_its_pods_under_its_rules(runtime):  # noqa: F811
    with EchoServer("reviews") as server:
        marked = {
            "route": [{"destination": {"host": "reviews"}}],
            "headers": {"request": {"set": {"x-rule": "theirs"}}},
        }
        resources = [service("reviews"), pod("reviews", "v1", server.port), virtual_service("reviews", marked)]
        alias = external("alias", "reviews.default.svc.cluster.local", 9080)
        with meshlib.Mesh.from_resources([*resources, alias]) as mesh:
            response = Caller(runtime, mesh, trust_env=False).get("http://alias:9080/")
            answer = response.json()
            assert (answer["server"], answer["headers"]["x-rule"]) == ("reviews", "theirs")
            assert answer["headers"]["host"] == "alias:9080"
            assert response.extensions["mesh"].resource == "VirtualService/default/reviews"


def test_an_alias_of_a_host_outside_is_dialled_as_dns_would_tell(runtime):  # noqa: F811
    with EchoServer("outside") as server:
        with meshlib.Mesh.from_resources([external("api", "localhost", server.port)]) as mesh:
            response = Caller(runtime, mesh, trust_env=False).get(f"http://api:{server.port}/")
            assert response.json()["server"] == "outside"
            assert response.extensions["mesh"].host == "PassthroughCluster"


def test_the_tls_of_the_service_that_an_alias_stands_for_is_not_lost(runtime, tmp_path):  # noqa: F811
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("api.test").configure_cert(context)
    with EvilServer([OK], tls=context) as server:
        entry = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": "api", "namespace": "default"},
            "spec": {
                "hosts": ["api.test"],
                "resolution": "STATIC",
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "endpoints": [{"address": "127.0.0.1", "ports": {"http": server.port}}],
            },
        }
        tls = {"mode": "SIMPLE", "sni": "api.test", "caCertificates": str(tmp_path / "ca.pem")}
        resources = [entry, external("api", "api.test", 80), destination_rule("api.test", tls=tls)]
        with meshlib.Mesh.from_resources(resources) as mesh:
            assert Caller(runtime, mesh, trust_env=False).get("http://api/").status_code == 200


def test_explain_says_what_an_alias_stands_for():
    resources = [service("reviews"), external("alias", "reviews.default.svc.cluster.local", 9080)]
    with meshlib.Mesh.from_resources([*resources, external("out", "api.example.com", 80)]) as mesh:
        said = str(mesh.explain(url="http://alias.default:9080/"))
        assert "alias.default is an ExternalName and stands for reviews.default.svc.cluster.local" in said
        assert "the address that the URL names: api.example.com" in str(mesh.explain(url="http://out/"))
        assert "ExternalName" not in str(mesh.explain(url="http://reviews:9080/"))


@pytest.mark.parametrize("runtime_class", GRPC_RUNTIMES, ids=lambda w: w.name)
async def test_grpc_calls_what_an_alias_stands_for(runtime_class):
    with GrpcServer("inside") as inside, GrpcServer("outside") as outside:
        ports = [{"name": "grpc", "port": 9080, "targetPort": inside.port}]
        resources = [
            service("echo", ports=ports),
            pod("echo", "v1", inside.port),
            external("alias", "echo.default.svc.cluster.local", 9080),
            external("far", "localhost", outside.port),
        ]
        with meshlib.Mesh.from_resources(resources) as mesh:
            for target, reached in (("alias:9080", "inside"), (f"far.default:{outside.port}", "outside")):
                calls = runtime_class(mesh, target)
                assert (await calls.unary("hello")).server == reached
                await calls.close()

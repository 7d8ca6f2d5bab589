"""What is spoken to an endpoint, in words: per endpoint, with the reason, as ``mesh.explain`` has it."""

from __future__ import annotations

from typing import Any

import pytest

import meshlib
from meshlib.compiler.clusters import DEFAULT_LIMITS
from meshlib.compiler.routes import Cluster, TlsSettings
from meshlib.engine.endpoint_tls import endpoint_tls
from meshlib.registry.service import Endpoint
from tests.support.mesh_tls import identity, svid
from tests.support.peer_authentication import peer_authentication
from tests.support.resources import destination_rule, pod, service

ENDPOINT = Endpoint("10.0.0.1", 80, {"app": "a"})
OURS = "spiffe://cluster.local/ns/default/sa/client"


def told(
    certificate: str | None = None, mutual: Any = (), endpoint: Endpoint = ENDPOINT, **spec: Any
) -> tuple[str, str]:
    cluster = Cluster("k", "a", "", 80, (endpoint,), DEFAULT_LIMITS, destination_rule="DestinationRule/a/b", **spec)
    return endpoint_tls(cluster, endpoint, mutual, certificate)


def test_a_tls_block_decides_for_all() -> None:
    assert told(tls=TlsSettings("SIMPLE")) == ("SIMPLE", "tls of DestinationRule/a/b")
    mutual = TlsSettings("ISTIO_MUTUAL")
    assert told(OURS, tls=mutual) == ("mTLS", "tls ISTIO_MUTUAL of DestinationRule/a/b")
    assert told("", tls=mutual)[1].endswith("this process has no certificate: calls fail (UF)")


def test_auto_mtls_needs_a_certificate_of_ours() -> None:
    assert told(OURS, ["10.0.0.1:80"]) == ("mTLS", "auto mTLS: its workload takes it")
    assert told("", ["10.0.0.1:80"]) == ("plain text", "its workload takes mTLS, and this process has no certificate")
    assert told(None, ["10.0.0.1:80"]) == ("mTLS", "auto mTLS, if we have a certificate")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"mtls_disabled": {"10.0.0.1:80": "a/off"}}, "PeerAuthentication/a/off is DISABLE at its port"),
        ({"why_plain": "outside"}, "outside"),
        ({}, "its workload has no label security.istio.io/tlsMode: istio"),
        (
            {"endpoint": Endpoint("10.0.0.1", 80, {"security.istio.io/tlsMode": "disabled"})},
            "its label security.istio.io/tlsMode is disabled",
        ),
    ],
)
def test_plain_text_has_a_reason(spec: Any, reason: str) -> None:
    assert told(OURS, **spec) == ("plain text", reason)


def in_mesh(version: str, port: int) -> dict[str, Any]:
    made = pod("reviews", version, port)
    made["metadata"]["labels"]["security.istio.io/tlsMode"] = "istio"
    return made


def test_an_explanation_tells_it_of_each_endpoint() -> None:
    off = peer_authentication("off", "DISABLE", version="v2")
    resources = [service("reviews"), in_mesh("v1", 1), in_mesh("v2", 2), pod("reviews", "v3", 3), off]
    with meshlib.Mesh.from_resources(resources) as mesh:
        [target] = mesh.explain(url="http://reviews:9080/").to_dict()["destinations"]
        assert [e["tls_reason"].partition(" ")[0] for e in target["endpoints"]] == [
            "its",
            "PeerAuthentication/default/off",
            "its",
        ]
        assert {e["tls"] for e in target["endpoints"]} == {"plain text"}
        assert "no certificate" in str(mesh.explain(url="http://reviews:9080/"))
    with meshlib.Mesh.from_resources(resources, identity=identity(svid(), start=False)[0]) as mesh:
        said = str(mesh.explain(url="http://reviews:9080/"))
        [target] = mesh.explain(url="http://reviews:9080/").to_dict()["destinations"]
    assert [e["tls"] for e in target["endpoints"]] == ["mTLS", "plain text", "plain text"]
    assert "         mTLS: auto mTLS: its workload takes it" in said.splitlines()


def test_meshes_without_mtls_read_as_before() -> None:
    with meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", 1)]) as mesh:
        assert "plain text" not in str(mesh.explain(url="http://reviews:9080/"))


def test_a_rule_that_asks_for_mtls_says_that_there_is_no_certificate() -> None:
    rule = destination_rule("reviews", tls={"mode": "ISTIO_MUTUAL"})
    with meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", 1), rule]) as mesh:
        said = str(mesh.explain(url="http://reviews:9080/"))
    assert (
        "mTLS: tls ISTIO_MUTUAL of DestinationRule/default/reviews; this process has no certificate: calls fail (UF)"
        in said
    )

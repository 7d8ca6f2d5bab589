"""``gatewayTopology``: what a gateway believes of proxies before it."""

from __future__ import annotations

from meshlib.compiler.gateway_topology import compile_topology
from meshlib.policy.edge_headers import Edge
from meshlib.policy.forwarded_client_cert import ForwardClientCert
from meshlib.resources.gateway_topology import GatewayTopology


def written(**fields):
    return GatewayTopology.model_validate(fields)


def test_a_gateway_trusts_nobody_unless_it_is_said():
    assert compile_topology([None, None]) == Edge(0, ForwardClientCert.SANITIZE_SET)


def test_the_annotation_counts_before_mesh_config_field_by_field():
    found = compile_topology(
        [written(numTrustedProxies=2, forwardClientCertDetails="FORWARD_ONLY"), written(numTrustedProxies=1)]
    )
    assert found == Edge(1, ForwardClientCert.FORWARD_ONLY)


def test_undefined_says_nothing():
    found = compile_topology(
        [written(forwardClientCertDetails="SANITIZE"), written(forwardClientCertDetails="UNDEFINED")]
    )
    assert found.client_cert is ForwardClientCert.SANITIZE

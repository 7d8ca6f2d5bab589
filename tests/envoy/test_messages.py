"""Envoy's messages out of plain values."""

from __future__ import annotations

import pytest

from meshlib.envoy.messages import CLUSTER, ENDPOINTS, NotEnvoys, discovery, name_of, packed, parsed
from meshlib.envoy.values import typed


def test_bytes_are_the_same_for_the_same_values() -> None:
    one = {"name": "a", "type": "EDS", "connect_timeout": "1s"}
    assert packed(CLUSTER, one) == packed(CLUSTER, dict(reversed(one.items())))
    assert parsed(CLUSTER, one).name == "a"


def test_a_field_that_envoy_has_not_is_an_error_that_names_what_has_it() -> None:
    with pytest.raises(NotEnvoys, match="cluster a: .*lb_polizei"):
        packed(CLUSTER, {"name": "a", "lb_polizei": "RANDOM"})


def test_extensions_are_known() -> None:
    socket = {"name": "tls", "typed_config": typed("transport_sockets.tls.v3.UpstreamTlsContext", sni="a")}
    assert b"UpstreamTlsContext" in packed(CLUSTER, {"name": "a", "transport_socket": socket})


def test_endpoints_go_by_the_name_of_their_cluster() -> None:
    assert name_of(ENDPOINTS, {"cluster_name": "a"}) == "a"
    assert discovery().DiscoveryRequest(type_url=CLUSTER).type_url == CLUSTER

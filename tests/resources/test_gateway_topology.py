"""``gatewayTopology`` as it is written in MeshConfig."""

from __future__ import annotations

from meshlib.resources.loader import load_objects
from tests.support.mesh_config import mesh_config


def test_what_is_written_is_read():
    result = load_objects([mesh_config(defaultConfig={"gatewayTopology": {"numTrustedProxies": 2}})])
    (config,) = result.resources
    assert config.spec.default_config.gateway_topology.num_trusted_proxies == 2


def test_a_number_that_is_none_is_refused():
    result = load_objects([mesh_config(defaultConfig={"gatewayTopology": {"numTrustedProxies": -1}})])
    assert [p.path for p in result.errors] == [
        "[0] MeshConfig/mesh: spec.defaultConfig.gatewayTopology.numTrustedProxies"
    ]

"""What of Istio's MeshConfig acts here."""

from __future__ import annotations

from meshlib.compiler.mesh_settings import DEFAULTS


def test_without_a_mesh_config_istios_defaults_count():
    assert (DEFAULTS.root_namespace, DEFAULTS.trust_domain, DEFAULTS.path_normalization) == (
        "istio-system",
        "cluster.local",
        "BASE",
    )

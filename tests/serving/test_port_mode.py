"""The mode of a port is the configuration's of this moment; of a mesh that is closed it is the strictest."""

from __future__ import annotations

from meshlib.mesh import Mesh
from meshlib.policy.mtls_mode import MtlsMode
from meshlib.serving.port_mode import mode_of
from meshlib.workload import Workload


def policy(mode: str, ports: dict[str, str]) -> dict[str, object]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "shop", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "shop"}},
            "mtls": {"mode": mode},
            "portLevelMtls": {port: {"mode": each} for port, each in ports.items()},
        },
    }


def test_it_is_that_of_the_port_and_follows_each_reload() -> None:
    workload = Workload("shop", labels={"app": "shop"})
    with Mesh.from_resources([policy("STRICT", {"8080": "DISABLE"})], workload=workload) as mesh:
        assert (mode_of(mesh._core, 8080), mode_of(mesh._core, 9090)) == (MtlsMode.DISABLE, MtlsMode.STRICT)
        mesh.apply([])
        assert mode_of(mesh._core, 9090) is MtlsMode.PERMISSIVE


def test_of_a_closed_mesh_it_is_strict() -> None:
    mesh = Mesh.from_resources([])
    mesh.close()
    assert mode_of(mesh._core, 8080) is MtlsMode.STRICT

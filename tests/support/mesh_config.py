"""Short ways to write a MeshConfig."""

from __future__ import annotations

from typing import Any

import yaml

Object = dict[str, Any]


def config_map(name: str = "istio", namespace: str = "istio-system", created: str = "", **mesh: Any) -> Object:
    """The ConfigMap that istiod reads."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created or None},
        "data": {"mesh": yaml.safe_dump(mesh), "meshNetworks": "networks: {}"},
    }


def mesh_config(name: str = "mesh", namespace: str = "istio-system", created: str = "", **spec: Any) -> Object:
    """The resource of its own."""
    return {
        "apiVersion": "meshlib.dev/v1",
        "kind": "MeshConfig",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created or None},
        "spec": spec,
    }


def http_authorizer(name: str = "authz", **settings: Any) -> Object:
    """An entry of ``extensionProviders``."""
    return {"name": name, "envoyExtAuthzHttp": {"service": "authz.infra.svc.cluster.local", "port": 8000, **settings}}


def grpc_authorizer(name: str = "authz", **settings: Any) -> Object:
    """The same over gRPC."""
    return {"name": name, "envoyExtAuthzGrpc": {"service": "authz.infra.svc.cluster.local", "port": 9000, **settings}}

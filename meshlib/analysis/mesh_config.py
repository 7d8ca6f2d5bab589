"""What analyzers ask of Istio's MeshConfig: of the one that a cluster's dump has, or of a file of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meshlib.problems import Problem
from meshlib.resources import typed
from meshlib.resources.base import Resource
from meshlib.resources.mesh_choice import ISTIO_SYSTEM, choose
from meshlib.resources.mesh_config import MeshConfig as MeshConfigResource
from meshlib.resources.mesh_config import MeshConfigSpec
from meshlib.resources.salvage import salvage
from meshlib.resources.yaml_reader import read


@dataclass(frozen=True, slots=True)
class MeshConfig:
    """Istio's defaults where nothing is known. ``logs``: access logging has default providers; ``allocates_addresses``:
    proxies give ServiceEntries without addresses some; ``lightstep`` are the names of such providers."""

    root_namespace: str = ISTIO_SYSTEM
    logs: bool = False
    allocates_addresses: bool = False
    lightstep: frozenset[str] = frozenset()


def mesh_config(spec: MeshConfigSpec) -> MeshConfig:
    """What of a MeshConfig analyzers look at."""
    metadata = (spec.default_config.proxy_metadata if spec.default_config is not None else None) or {}
    return MeshConfig(
        spec.root_namespace or ISTIO_SYSTEM,
        bool(spec.default_providers is not None and spec.default_providers.access_logging),
        metadata.get("ISTIO_META_DNS_CAPTURE") == "true"
        and "true" in (metadata.get("ISTIO_META_DNS_AUTO_ALLOCATE"), metadata.get("PILOT_ENABLE_IP_AUTOALLOCATE")),
        frozenset(p.name for p in spec.extension_providers or () if p.name and p.lightstep is not None),
    )


def mesh_config_of(resources: Iterable[Resource]) -> MeshConfig:
    """Of the one among them that counts."""
    found = [resource for resource in resources if resource.kind in (typed.MESH_CONFIG.kind, typed.CONFIG_MAP.kind)]
    chosen = choose(typed.MESH_CONFIG.among(found), typed.CONFIG_MAP.among(found))[0] if found else None
    return mesh_config(chosen.spec) if chosen is not None else MeshConfig()


def parse(text: str | bytes, file: str) -> tuple[MeshConfig, list[Problem]]:
    """Of a text of YAML, and what is wrong with it. Whatever is not as Istio has it counts as not there."""
    documents, problems = read(text, file)
    value = documents[0].value if documents else None
    spec = value if isinstance(value, Mapping) else {}
    made = salvage(MeshConfigResource, {"apiVersion": "meshlib.dev/v1", "kind": "MeshConfig", "spec": spec})
    assert isinstance(made, MeshConfigResource)
    return mesh_config(made.spec), problems

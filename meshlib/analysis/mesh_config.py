"""What analyzers ask of Istio's MeshConfig: of the ConfigMap ``istio`` of a cluster's dump, or of a file of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meshlib.problems import Problem
from meshlib.resources.load_result import Other
from meshlib.resources.yaml_reader import read

CONFIG_MAP = ("istio-system", "istio")


@dataclass(frozen=True, slots=True)
class MeshConfig:
    """Istio's defaults where nothing is known. ``logs``: access logging has default providers; ``allocates_addresses``:
    proxies give ServiceEntries without addresses some; ``lightstep`` are the names of such providers."""

    root_namespace: str = "istio-system"
    logs: bool = False
    allocates_addresses: bool = False
    lightstep: frozenset[str] = frozenset()


def mesh_config(value: object) -> MeshConfig:
    """Of the object that MeshConfig's YAML is; whatever is not as Istio has it counts as not there."""
    found = _map(value)
    metadata = _map(_map(found.get("defaultConfig")).get("proxyMetadata"))
    providers = found.get("extensionProviders")
    return MeshConfig(
        str(found.get("rootNamespace") or "istio-system"),
        bool(_map(found.get("defaultProviders")).get("accessLogging")),
        metadata.get("ISTIO_META_DNS_CAPTURE") == "true"
        and "true" in (metadata.get("ISTIO_META_DNS_AUTO_ALLOCATE"), metadata.get("PILOT_ENABLE_IP_AUTOALLOCATE")),
        frozenset(
            str(provider.get("name"))
            for provider in (providers if isinstance(providers, list) else ())
            if isinstance(provider, Mapping) and "lightstep" in provider
        ),
    )


def mesh_config_of(config_maps: Iterable[Other]) -> MeshConfig:
    """Of the ConfigMap that istiod reads, if it is there."""
    for other in config_maps:
        text = _map(other.value.get("data")).get("mesh")
        if (other.namespace, other.name) == CONFIG_MAP and isinstance(text, str):
            return parse(text, other.origin.file)[0]
    return MeshConfig()


def parse(text: str | bytes, file: str) -> tuple[MeshConfig, list[Problem]]:
    """Of a text of YAML, and what is wrong with it."""
    documents, problems = read(text, file)
    return mesh_config(documents[0].value if documents else None), problems


def _map(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}

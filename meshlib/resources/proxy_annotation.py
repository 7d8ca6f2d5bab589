"""The annotation ``proxy.istio.io/config`` of a Pod, or of a Deployment's template: settings of one workload's proxy."""

from __future__ import annotations

from pydantic import Field

from meshlib.resources.base import Resource
from meshlib.resources.gateway_topology import GatewayTopology
from meshlib.resources.kubernetes import Loose
from meshlib.resources.proxy_headers import ProxyHeaders
from meshlib.resources.telemetry_providers import ProxyTracing
from meshlib.resources.typed import DEPLOYMENT

ANNOTATION = "proxy.istio.io/config"


class AnnotatedConfig(Loose):
    """Its text, read: what MeshConfig has in defaultConfig. Only what means something to a library has a type."""

    proxy_metadata: dict[str, str] | None = None
    tracing: ProxyTracing | None = Field(default=None, repr=False)
    proxy_headers: ProxyHeaders | None = None
    gateway_topology: GatewayTopology | None = None


def annotation_text(resource: Resource) -> str:
    """The text as written, "" where there is none."""
    if DEPLOYMENT.is_kind_of(resource):
        template = resource.spec.template
        annotations = template.metadata.annotations if template is not None and template.metadata is not None else None
    else:
        annotations = resource.metadata.annotations
    return "" if annotations is None else annotations.get(ANNOTATION, "")


def annotation_place(resource: Resource) -> tuple[str | int, ...]:
    """Where it stands in its document."""
    template = ("spec", "template") if resource.kind == "Deployment" else ()
    return (*template, "metadata", "annotations", ANNOTATION)

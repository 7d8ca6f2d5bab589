"""ServiceEntry (networking.istio.io), every field of Istio's schema."""

from __future__ import annotations

from typing import Annotated, Literal

from meshlib.resources.base import Model, Resource
from meshlib.resources.selection import WorkloadSelector
from meshlib.resources.types import OptionalPort, Port, names
from meshlib.resources.workload import WorkloadEntrySpec


class ServiceEntryPort(Model):
    """``spec.ports`` of ServiceEntry."""

    name: str
    number: Port
    protocol: str | None = None
    target_port: OptionalPort = None


class ServiceEntrySpec(Model):
    """``spec`` of ServiceEntry."""

    hosts: list[str]
    addresses: list[str] | None = None
    endpoints: list[WorkloadEntrySpec] | None = None
    export_to: list[str] | None = None
    location: Annotated[Literal["MESH_EXTERNAL", "MESH_INTERNAL"], names("MESH_EXTERNAL", "MESH_INTERNAL")] | None = (
        None
    )
    ports: list[ServiceEntryPort] | None = None
    resolution: (
        Annotated[
            Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"],
            names("NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"),
        ]
        | None
    ) = None
    subject_alt_names: list[str] | None = None
    workload_selector: WorkloadSelector | None = None


class ServiceEntry(Resource):
    """Istio's ServiceEntry."""

    kind: Literal["ServiceEntry"]
    spec: ServiceEntrySpec
    status: object = None

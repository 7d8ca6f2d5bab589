"""WorkloadEntry (networking.istio.io), every field of Istio's schema."""

from __future__ import annotations

from typing import Literal

from meshlib.resources.base import Model, Resource
from meshlib.resources.types import Port, UInt32


class WorkloadEntrySpec(Model):
    """``spec`` of WorkloadEntry, and an entry of ``spec.endpoints`` of ServiceEntry."""

    address: str | None = None
    labels: dict[str, str] | None = None
    locality: str | None = None
    network: str | None = None
    ports: dict[str, Port] | None = None
    service_account: str | None = None
    weight: UInt32 | None = None


class WorkloadEntry(Resource):
    """Istio's WorkloadEntry."""

    kind: Literal["WorkloadEntry"]
    spec: WorkloadEntrySpec
    status: object = None

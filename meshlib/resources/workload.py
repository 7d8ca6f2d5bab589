"""WorkloadEntry (networking.istio.io), every field of Istio's schema."""

from __future__ import annotations

from typing import Any, Literal

from meshlib.resources.base import Model, Resource
from meshlib.resources.types import Count


class WorkloadEntrySpec(Model):
    """``spec`` of WorkloadEntry."""

    address: str | None = None
    labels: dict[str, str] | None = None
    locality: str | None = None
    network: str | None = None
    ports: dict[str, int] | None = None
    service_account: str | None = None
    weight: Count | None = None


class WorkloadEntry(Resource):
    """Istio's WorkloadEntry."""

    kind: Literal["WorkloadEntry"]
    spec: WorkloadEntrySpec
    status: Any = None

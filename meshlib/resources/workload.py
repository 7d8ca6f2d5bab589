"""WorkloadEntry (networking.istio.io), every field of Istio's schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from meshlib.resources.base import Model, Resource
from meshlib.resources.notices import Notice
from meshlib.resources.types import Port, UInt32
from meshlib.resources.validation import workload_entry as rules


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

    def refusals(self) -> Iterator[Notice]:
        """See ``validation/workload_entry.py``."""
        return rules.refusals(self)

    def notices(self) -> list[Notice]:
        """What Istio warns of, beside old spellings."""
        return [*super().notices(), *rules.warnings(self)]

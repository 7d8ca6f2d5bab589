"""EnvoyFilters that inject faults at servers."""

from __future__ import annotations

from typing import Any

from meshlib.engine.drivers import finish, run, run_async
from meshlib.policy.refusal import Refusal

FAULT = "envoy.filters.http.fault"
HTTP_FAULT = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"


def fault_patch(
    operation: str = "INSERT_BEFORE",
    *,
    context: str | None = "SIDECAR_INBOUND",
    neighbour: str = "",
    name: str = FAULT,
    **config: Any,
) -> dict[str, Any]:
    """One of ``configPatches``, as people write it."""
    neighbour = neighbour or (FAULT if operation == "MERGE" else "envoy.filters.http.router")
    manager = {"name": "envoy.filters.network.http_connection_manager", "subFilter": {"name": neighbour}}
    match: dict[str, Any] = {"listener": {"filterChain": {"filter": manager}}}
    if context is not None:
        match["context"] = context
    value = {"name": name, "typed_config": {"@type": HTTP_FAULT, **config}}
    return {"applyTo": "HTTP_FILTER", "match": match, "patch": {"operation": operation, "value": value}}


def envoy_filter(
    name: str, *patches: dict[str, Any], namespace: str = "default", labels: dict[str, str] | None = None
) -> dict[str, Any]:
    spec: dict[str, Any] = {"configPatches": list(patches)}
    if labels is not None:
        spec["workloadSelector"] = {"labels": labels}
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


class Sleeps:
    """A runtime of which nothing is asked but to sleep."""

    def __init__(self, sleep: Any) -> None:
        self.sleep = sleep


def admitted(exchange: Any, sleep: Any) -> Refusal | None:
    """Run an inbound exchange up to its application; what refused it (all is over then), or None."""
    runtime: Any = Sleeps(sleep)
    refusal = run(exchange, runtime).refusal
    if refusal is not None:
        finish(exchange)
    return refusal


async def admitted_async(exchange: Any, sleep: Any) -> Refusal | None:
    """The same on asyncio."""
    runtime: Any = Sleeps(sleep)
    refusal = (await run_async(exchange, runtime)).refusal
    if refusal is not None:
        finish(exchange)
    return refusal

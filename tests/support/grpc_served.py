"""Calls of a gRPC server that is in the mesh, in every way of writing a handler, and what they count."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry

import meshlib
from tests.support.grpc_echo import Message, eventually

BOOKINFO = "spiffe://cluster.local/ns/default/sa/bookinfo-productpage"
RATINGS = meshlib.Workload("ratings-v1", labels={"app": "ratings", "version": "v1"}, service_account="ratings")


class Counted:
    """A mesh with a registry of its own, and what it has counted."""

    def __init__(self, *resources: dict[str, Any], **more: Any) -> None:
        self.registry = CollectorRegistry()
        self.mesh = meshlib.Mesh.from_resources(resources, registry=self.registry, workload=RATINGS, **more)

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        return [(s.labels, s.value) for f in self.registry.collect() for s in f.samples if s.name == name and s.value]

    @property
    def results(self) -> dict[tuple[str, str, str], float]:
        """Calls by (response_code, grpc_response_status, response_flags)."""
        found: dict[tuple[str, str, str], float] = {}
        for labels, value in self.samples("istio_requests_total"):
            key = (labels["response_code"], labels["grpc_response_status"], labels["response_flags"])
            found[key] = found.get(key, 0) + value
        return found

    def messages(self) -> tuple[float, float]:
        """(requests, responses)."""
        names = ("istio_request_messages_total", "istio_response_messages_total")
        return tuple(sum(value for _, value in self.samples(name)) for name in names)  # type: ignore[return-value]

    def settled(self, wanted: dict[tuple[str, str, str], float]) -> bool:
        """Whether what is counted becomes this (handlers end after their callers have their answers)."""
        return eventually(lambda: self.results == wanted)


def call(stub: Any, kind: str, text: str = "a", count: int = 2, **options: Any) -> list[str]:
    """One call of a kind; the texts that came back."""
    requests = [Message(text=text)] * count
    if kind == "Unary":
        return [stub.Unary(Message(text=text), **options).text]
    if kind == "Expand":
        return [m.text for m in stub.Expand(Message(text=text, count=count), **options)]
    if kind == "Collect":
        return [stub.Collect(iter(requests), **options).text]
    return [m.text for m in stub.Chat(iter(requests), **options)]


KINDS = ("Unary", "Expand", "Collect", "Chat")


def messages_before(runtime: str, kind: str) -> int:
    """How many messages an order to fail may come after: grpcio loses the status of a plain generator on an asyncio server
    that aborts while its last message is being written (seen without the mesh in 9 of 15 calls; the caller waits for ever)."""
    return 0 if runtime == "plain" and kind == "Expand" else 1

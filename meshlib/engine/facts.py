"""What ``mesh.explain`` and ``mesh.status`` say, as plain data: the keys are stable."""

from __future__ import annotations

from typing import TypedDict


class AttemptFacts(TypedDict):
    """``ms``: milliseconds to the head of the response; ``detail``: why there was a ``failure``, in words."""

    endpoint: str
    status: int
    failure: str
    detail: str
    ms: float


class RuleFacts(TypedDict):
    """A rule that was looked at."""

    rule: int
    name: str
    taken: bool
    reason: str


class MirrorFacts(TypedDict):
    """``share`` in percent."""

    host: str
    subset: str
    share: float


class EndpointFacts(TypedDict):
    """``ejected_for``: seconds from now, None when it is in use. ``tls`` is "mTLS" (of the mesh), "plain text", or SIMPLE
    or MUTUAL of a DestinationRule; ``tls_reason`` says why. ``pod`` is the name of its Pod, "" when it is none's."""

    address: str
    labels: dict[str, str]
    workload: str
    pod: str
    locality: str
    priority: int
    healthy: bool
    serving: bool
    reachable: bool
    ejected: bool
    ejected_for: float | None
    usable: bool
    active: int
    weight: float
    tls: str
    tls_reason: str


class PassedThrough(TypedDict):
    """An address that a URL named."""

    address: str


class ResilienceFacts(TypedDict, total=False):
    """What a ResiliencePolicy stands at; only the mechanisms that are configured. ``retry_budget``: retries of the last ten
    seconds, and how many there may be."""

    resource: str
    host: str
    shadow: list[str]
    active: int
    counts: dict[str, int]
    circuit_breaker: str
    bulkhead: dict[str, int]
    concurrency_limit: int
    retry_budget: dict[str, float]


class DestinationFacts(TypedDict, total=False):
    """``share`` in percent of the rule's calls."""

    host: str
    subset: str
    port: int
    share: float
    cluster: str
    missing: str
    lack: str
    reply: str
    balancer: str
    hash_leads_to: str
    protocol: str
    warmup: float | None
    retry_budget: str
    request_headers: str
    response_headers: str
    destination_rule: str
    tls: str
    limits: str
    resilience: ResilienceFacts | None
    resilience_text: str
    outlier_detection: bool
    endpoints: list[EndpointFacts]
    endpoints_note: str


class DetailFacts(TypedDict, total=False):
    """What is told of a call where there is something to be told. Times in seconds."""

    note: str
    lack: str
    considered: list[RuleFacts]
    virtual_host: str
    url: str
    alias: str
    host_header: str
    reply: str
    timeout: float | None
    retry: str
    mirrors: list[MirrorFacts]
    rewrite: str
    cors: bool
    delegate: str
    fault: str
    destinations: list[DestinationFacts]
    not_sent_again: str


class ExplanationFacts(DetailFacts, TypedDict):
    """A call's decision and, when it was made, what happened. Times in seconds."""

    resource: str
    rule: int | None
    rule_name: str
    host: str
    subset: str
    port: int
    endpoint: str
    attempts: list[AttemptFacts]
    flags: str
    upstream_ms: float | None
    injected_delay: float
    config_version: str


class EjectionFacts(TypedDict):
    """An endpoint was ejected for ``seconds``, or has returned, at a time of the mesh's clock."""

    kind: str
    endpoint: str
    trigger: str
    at: float
    seconds: float


class ClusterFacts(TypedDict):
    """A cluster in use. ``retries_allowed``: how many may run at once now (maxRetries, else retryBudget), None: any number.
    ``attempts`` by what came of them, ``overflows`` by the limit that refused something, ``no_endpoint``: calls that found no
    usable one."""

    name: str
    host: str
    subset: str
    port: int
    balancer: str
    limits: str
    requests: int
    active: int
    failures: int
    retries: int
    retries_active: int
    retries_allowed: int | None
    attempts: dict[str, int]
    overflows: dict[str, int]
    no_endpoint: int
    connections_in_use: int | None
    pending: int | None
    endpoints: list[EndpointFacts] | list[PassedThrough]
    events: list[EjectionFacts]

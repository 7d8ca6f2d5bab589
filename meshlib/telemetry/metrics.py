"""Istio's client-side metrics, reporter "source": how many calls, how long they took, how large they were, how many messages.

A series is looked up once per destination, endpoint and result; afterwards a call costs one dictionary look-up, and three
numbers that are noted (``served.py``).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from meshlib.compiler.routes import PASSTHROUGH
from meshlib.policy.endpoint import UNREGISTERED
from meshlib.policy.grpc_status import NAMES as GRPC_NAMES
from meshlib.policy.grpc_status import http_of_grpc
from meshlib.telemetry.families import PEER_LABELS, families, message_families, policy_families, size_families
from meshlib.telemetry.one_message import OneMessage, one_message
from meshlib.telemetry.peer_labels import NOBODY, UNKNOWN, ToldPeers, namespace_of, of_endpoint, of_workload
from meshlib.telemetry.served import Served, served_by
from meshlib.telemetry.sizes import messages, response_size
from meshlib.telemetry.tables import CallSeries, CountSeries, NewCount, durations_of
from meshlib.telemetry.tag_overrides import AS_THEY_ARE
from meshlib.telemetry.tcp_series import TcpSeries, tcp_series
from meshlib.workload import Workload

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from meshlib.compiler.routes import Destination
    from meshlib.engine.call import Call
    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.explanation import Exchange
    from meshlib.policy.endpoint import EndpointState
    from meshlib.telemetry.access_log.entry import Traced
    from meshlib.telemetry.cluster_codes import ClusterCodes
    from meshlib.telemetry.tables import Calls, Count
    from meshlib.telemetry.tag_overrides import AsTheyAre, TagOverrides

MAX_SHORT_CUTS = 10_000

Found = TypeVar("Found")


class ShortCuts(Generic[Found]):
    """Series by what they were looked up with last time: strings are made of that once, and not at every call."""

    __slots__ = ("_short_cuts", "of")

    def __init__(self) -> None:
        self._short_cuts: dict[Hashable, Found] = {}
        self.of = self._short_cuts.get

    def learn(self, key: Hashable, found: Found) -> Found:
        """Know it from now on. There may be any number of keys, and the series themselves stay."""
        if len(self._short_cuts) >= MAX_SHORT_CUTS:
            self.forget()
        self._short_cuts[key] = found
        return found

    def forget(self) -> None:
        """All of them."""
        self._short_cuts.clear()


class Usual:
    """Calls of HTTP that one destination has responded to with one status, without any flag or metadata of its peer, and by a
    rule that is not counted by name (a destination belongs to such rules or to others: ``compiler/rules.py``)."""

    __slots__ = ("destination", "served", "status")

    def __init__(self, destination: Destination | None, status: int, served: Served) -> None:
        self.destination = destination
        self.status = status
        self.served = served


UNUSUAL = Usual(None, -1, Served(*[CallSeries(()) for _ in range(3)]))
"""No call is like that."""


class Series(NamedTuple):
    """Where calls with one set of labels are counted."""

    calls: Calls
    request_bytes: Calls
    response_bytes: Calls
    served: Served | None
    """All three, where they are plain numbers of this process and the calls have not failed."""
    failed: CountSeries | None
    """Calls that failed are counted for ``mesh.status()`` too."""
    request_messages: Count | None
    response_messages: Count | None
    usual: Usual
    """Where such calls may be noted without ``Metrics.finished``."""
    one_message: OneMessage | None
    """Where those of gRPC with one message each way may be."""

    def observe(self, call: Call, milliseconds: float) -> None:
        """One call has ended."""
        served = self.served
        if served is not None:
            served.note(milliseconds, call.request.sent_bytes(), response_size(call))
        else:
            self.calls.observe(milliseconds)
            self.request_bytes.observe(call.request.sent_bytes())
            self.response_bytes.observe(response_size(call))
        if self.failed is not None:
            self.failed.inc()
        if self.request_messages is not None and self.response_messages is not None:
            sent, received = messages(call)
            self.request_messages.inc(sent)
            self.response_messages.inc(received)


def key_of(call: Call) -> tuple[object, ...]:
    """What the series of a call are looked up with."""
    record = call.record
    return (
        record.destination or record.virtual_host,  # whose host it was, of a response that was made here
        record.endpoint,
        record.status,
        record.flags,
        record.grpc_status,
        record.peer_metadata,
        call.request.protocol,
    )


class Metrics:
    """Counts the calls of one client."""

    __slots__ = (
        *("_cluster", "_evaluated", "_failed", "_families", "_labelled", "_registry", "_series", "_source", "_tags"),
        *("_told", "codes", "one_message", "usual"),
    )

    def __init__(self, registry: CollectorRegistry, workload: Workload) -> None:
        self._failed: dict[str, CountSeries] = {}
        self.codes: ClusterCodes | None = None
        self._families = families(registry)
        size_families(registry)  # registered where the program sees what is wrong with its registry
        self._registry = registry
        self._series: ShortCuts[Series] = ShortCuts()
        self.usual: dict[str, Usual] = {}
        """What most calls to an endpoint are like: those of the kind that was met last."""
        self.one_message: dict[str, OneMessage] = {}
        """The same of gRPC, by endpoint."""
        self._source = of_workload(workload)
        self._cluster = workload.cluster
        self._told = ToldPeers()
        self._labelled: set[str] = set()
        self._tags: TagOverrides[Call] | AsTheyAre = AS_THEY_ARE
        self._evaluated: TagOverrides[Call] | None = None

    def finished(self, call: Call, now: float) -> None:
        """A call is over since ``now``, whichever way."""
        record, rule = call.record, call.record.rule_object
        one_message = self.one_message.get(record.endpoint)
        if one_message is not None and one_message.took(call, now):
            return
        values: tuple[str, ...] = ()
        key = key_of(call)
        if self._evaluated is not None:
            values = self._evaluated.values(call, now, self._labels)
            key = (*key, values)
        found = self._series.of(key)
        if found is None:
            found = self._series.learn(key, self._make(call, values))
        found.observe(call, (now - record.started) * 1000.0)
        if rule is None or not rule.has_stat_prefix:
            if len(self.usual) >= MAX_SHORT_CUTS:
                self.usual.clear()
                self.one_message.clear()
            self.usual[record.endpoint] = UNUSUAL if self._evaluated is not None else found.usual
            if found.one_message is not None and self._evaluated is None:
                self.one_message[record.endpoint] = found.one_message
            return
        taken = next((match.settings.stat_prefix for match in rule.matches if match(call.request)), "")
        if taken:
            self._families.routes.labels(record.resource, taken, str(record.status)).inc()

    def connection(self, call: Call, now: float) -> TcpSeries:
        """Where a connection that is open, or has failed, is counted."""
        why = _failure(call.record)
        if why:
            self._failed.setdefault(why, NewCount()).inc()
        values = () if self._evaluated is None else self._evaluated.values(call, now, self._labels)
        return tcp_series(self._registry, self._tags, self._labels(call), values)

    def traced(self, call: Call, now: float, traced: Traced) -> None:
        """A call that was ``finished`` is one of a trace: the example of calls that take so long."""
        record = call.record
        key = key_of(call)
        if self._evaluated is not None:
            key = (*key, self._evaluated.values(call, now, self._labels, counts=False))
        found = self._series.of(key)
        durations = None if found is None else durations_of(found.calls)
        if durations is not None:
            durations.exemplify((now - record.started) * 1000.0, traced.trace_id, traced.span_id)

    @property
    def failed(self) -> dict[str, int]:
        """How many calls have failed, by what happened: Envoy's flags, the status of a response that is an error of the
        server, or that of gRPC."""
        return {why: int(count.value) for why, count in sorted(self._failed.items())}

    def _make(self, call: Call, values: tuple[str, ...]) -> Series:
        labels, tags = self._labels(call), self._tags
        calls = tags.calls(self._families.calls, labels, values)
        if self.codes is not None:
            calls = self.codes.around(calls, call.record)
        sizes = size_families(self._registry)
        requests = tags.sizes("request_bytes", sizes.requests, labels, values)
        responses = tags.sizes("response_bytes", sizes.responses, labels, values)
        why = _failure(call.record)
        failed = self._failed.setdefault(why, NewCount()) if why else None
        served = None if failed is not None else served_by(calls, requests, responses)
        if call.request.protocol == "grpc":
            families, peers = message_families(self._registry), labels[: len(PEER_LABELS)]
            sent = tags.messages("request_messages_total", families.requests, peers, values)
            received = tags.messages("response_messages_total", families.responses, peers, values)
            one = one_message(call.record, served, sent, received)
            return Series(calls, requests, responses, served, failed, sent, received, UNUSUAL, one)
        record = call.record
        usual = UNUSUAL
        if served is not None and record.destination is not None and not record.flags and record.peer_metadata is None:
            usual = Usual(record.destination, record.status, served)
        return Series(calls, requests, responses, served, failed, None, None, usual, None)

    def override(self, tags: TagOverrides[Call] | None) -> None:
        """What Telemetries change about the metrics of calls from here on; None: nothing."""
        self._tags = AS_THEY_ARE if tags is None else tags
        self._evaluated = tags if tags is not None and tags.evaluates else None
        self.forget_short_cuts()

    def forget_short_cuts(self) -> None:
        """The configuration has changed: what was looked up by its parts would keep them. The series themselves stay."""
        self._series.forget()
        self.usual.clear()
        self.one_message.clear()
        self._labelled.clear()

    def vouched(self, endpoint: str) -> None:
        """Who is at an endpoint (its key) is known now, or somebody else than before: calls to it may be another series'."""
        if endpoint in self._labelled:
            self.forget_short_cuts()

    def resilience(self, host: str, mechanism: str, mode: str, verdict: str) -> None:
        """Count what a mechanism did."""
        self._families.resilience.labels(host, mechanism, mode, verdict).inc()

    def dry_run(self, policy: str, result: str) -> None:
        """Count what policies on trial would have decided."""
        policy_families(self._registry).dry_run.labels(policy, result).inc()

    def _labels(self, call: Call) -> tuple[str, ...]:
        record, request = call.record, call.request
        destination, host = record.destination, record.host
        bound = None if destination is None else call.live.bound.get(destination.cluster)
        state = None if bound is None else bound.state.endpoints.get(record.endpoint)
        if not host:  # it was refused before it was for anybody
            service = name = namespace = UNKNOWN
        elif host == PASSTHROUGH or record.virtual_host is call.live.snapshot.blocked:
            # never the Host that the caller sent: a crawler would make a series of each
            service, name = UNKNOWN, PASSTHROUGH if host == PASSTHROUGH else BLACK_HOLE
            namespace = UNKNOWN
        else:
            service, parts = host, host.split(".")
            in_cluster = len(parts) > 2 and parts[2] == "svc"
            name = parts[0] if in_cluster else host
            namespace = bound.spec.namespace if bound is not None else parts[1] if in_cluster else ""
        peer, ours, theirs = NOBODY, "", ""
        if state is not None and state.endpoint is not UNREGISTERED and service is not UNKNOWN:
            peer = of_endpoint(state.endpoint, namespace, self._cluster)
            peer = self._told.labelled(peer, record.peer_metadata)
        if state is not None and "UF" not in record.flags.split(","):
            self._labelled.add(record.endpoint)
            if state.principals is not None and bound is not None and _is_mutual(bound, state, request.scheme):
                ours, theirs = state.principals
                peer = peer._replace(namespace=namespace_of(theirs) or peer.namespace)
        return (
            "source",
            *self._source.source(ours),
            *peer.destination(theirs, service, name, namespace or peer.namespace),
            request.protocol,
            str(record.status),
            "" if record.grpc_status is None else str(record.grpc_status),
            record.flags or "-",
            UNKNOWN,
        )


def _is_mutual(bound: BoundCluster, state: EndpointState, scheme: str) -> bool:
    """Whether calls to an endpoint are over mTLS of the mesh: the cluster's, or auto mTLS to those that take it."""
    if bound.tls is None or bound.tls.mode != "ISTIO_MUTUAL":
        return False
    return bound.tls is bound.spec.tls or (state.key in bound.mutual and scheme != "https")


BLACK_HOLE = "BlackHoleCluster"
NO_FAILURE = frozenset(("DI", "FB"))
"""Flags of calls that succeed: a delay was injected, or a fallback has stood in."""


def _failure(record: Exchange) -> str:
    """Why a call has failed; "" when it has not."""
    flags = ",".join(flag for flag in record.flags.split(",") if flag and flag not in NO_FAILURE)
    if flags:
        return flags
    if record.grpc_status and http_of_grpc(record.grpc_status) >= 500:
        return GRPC_NAMES[record.grpc_status]
    return str(record.status) if record.status >= 500 else ""

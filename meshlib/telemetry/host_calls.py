"""Calls by host, with how long they took: the tables of ``istio_request_duration_milliseconds``, added up.

Percentiles are read from the histogram as Prometheus's ``histogram_quantile`` does it: the bucket in which the wanted call
is, and in it as far as the rank is, as if the calls of a bucket lay evenly. They are as coarse as the buckets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.policy.grpc_status import http_of_grpc
from meshlib.telemetry.families import BUCKETS, LABELS, families
from meshlib.telemetry.metrics import NO_FAILURE
from meshlib.telemetry.tables import CallTable, WrittenCalls

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from meshlib.workload import Workload

WANTED = ("reporter", "source_workload", "source_workload_namespace", "destination_workload",
          "destination_workload_namespace", "destination_service", "response_code", "grpc_response_status",
          "response_flags")  # fmt: skip
_AT = [LABELS.index(name) for name in WANTED]
Row = tuple[tuple[str, ...], Sequence[float]]


class HostCalls:
    """``counts`` of each bucket alone, the last of what is beyond ``BUCKETS``; ``errors``: calls that failed in the network or
    got a 5xx (gRPC: a status that stands for one)."""

    __slots__ = ("counts", "errors")

    def __init__(self) -> None:
        self.counts: list[float] = [0] * (len(BUCKETS) + 1)
        self.errors: float = 0

    @property
    def calls(self) -> float:
        return sum(self.counts)


def calls_by_host(registry: CollectorRegistry, workload: Workload) -> dict[tuple[str, str], HostCalls]:
    """Of one workload's calls in a registry, by ("made" or "served", host)."""
    found: dict[tuple[str, str], HostCalls] = {}
    for labels, counts in _rows(registry):
        reporter, source, source_namespace, target, target_namespace, host, code, grpc, flags = labels
        mine = (source, source_namespace) if reporter == "source" else (target, target_namespace)
        if mine != (workload.name, workload.namespace):
            continue
        calls = found.setdefault(("made" if reporter == "source" else "served", host), HostCalls())
        calls.counts = [a + b for a, b in zip(calls.counts, counts, strict=True)]
        if is_error(code, grpc, flags):
            calls.errors += sum(counts)
    return found


def is_error(code: str, grpc: str, flags: str) -> bool:
    """Whether calls with these labels have failed."""
    if any(flag not in NO_FAILURE for flag in flags.split(",") if flag not in ("", "-")):
        return True
    if grpc.isdecimal() and grpc != "0" and http_of_grpc(int(grpc)) >= 500:
        return True
    return code == "0" or (code.isdecimal() and int(code) >= 500)


def percentile(bounds: Sequence[float], counts: Sequence[float], share: float) -> float | None:
    """The duration, in the unit of ``bounds``, below which ``share`` (0 to 1) of the calls are; None without calls. For one
    beyond the last bound it is that bound."""
    total = sum(counts)
    if total <= 0:
        return None
    rank, below, lower = share * total, 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and below + count >= rank:
            return lower + (bound - lower) * (rank - below) / count
        below += count
        lower = bound
    return bounds[-1]


def _rows(registry: CollectorRegistry) -> Iterator[Row]:
    calls = families(registry).calls
    if isinstance(calls, CallTable):
        for labels, series in calls.rows():
            yield tuple(labels[n] for n in _AT), series.read()[0]
    elif isinstance(calls, WrittenCalls):
        yield from _written(calls.samples())


def _written(samples: Iterable[tuple[str, dict[str, str], float]]) -> Iterator[Row]:
    """Of what prometheus_client counts in its files, which is this process's own: buckets there hold all that is below."""
    by_labels: dict[tuple[str, ...], list[float]] = {}
    for name, labels, value in samples:
        if name == "_bucket":
            by_labels.setdefault(tuple(labels[each] for each in LABELS), []).append(value)
    for key, upto in by_labels.items():
        counts = [value - before for value, before in zip(upto, [0.0, *upto], strict=False)]
        yield tuple(key[n] for n in _AT), counts

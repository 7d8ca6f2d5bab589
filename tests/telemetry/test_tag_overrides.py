"""Telemetries change Istio's metrics: what is off is not recorded, labels go and come."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from meshlib.policy.telemetry_settings import TAGS, MetricOverride, MetricSettings, TagOverride
from meshlib.telemetry import tag_overrides
from meshlib.telemetry.dropped import Dropped
from meshlib.telemetry.families import LABELS, PEER_LABELS, families, message_families, size_families
from meshlib.telemetry.tag_overrides import LONGEST, NOTHING, OTHER, TagOverrides
from tests.support.access_log import MadeUp

ISTIOS = tuple(f"<{name}>" for name in LABELS)
PEERS = ISTIOS[: len(PEER_LABELS)]


def overrides(disabled: bool = False, **metrics: MetricOverride) -> TagOverrides[MadeUp]:
    return TagOverrides(MetricSettings(disabled, metrics), {"id": "me"}, True, lambda entry, _now: entry)


def changed(*tags: tuple[str, str]) -> MetricOverride:
    return MetricOverride(tags=tuple(TagOverride(name, expression) for name, expression in tags))


def values(made: TagOverrides[MadeUp], entry: MadeUp | None = None) -> tuple[str, ...]:
    return made.values(entry or MadeUp(), 0.0, lambda _call: ISTIOS)


def samples(registry: CollectorRegistry) -> dict[str, list[dict[str, str]]]:
    """The labels of each series, without those of histograms' buckets."""
    found: dict[str, list[dict[str, str]]] = {}
    for family in registry.collect():
        for sample in family.samples:
            if not sample.name.endswith(("_bucket", "_created", "_sum")):
                found.setdefault(sample.name, []).append(sample.labels)
    return found


def test_our_labels_are_istios() -> None:
    assert LABELS == TAGS


def test_a_label_is_removed_another_is_replaced_and_one_is_added() -> None:
    registry = CollectorRegistry()
    change = changed(("source_app", ""), ("tenant", "request.headers['x-tenant']"), ("response_code", "'2xx'"))
    made = overrides(requests_total=change)
    found = values(made, MadeUp(headers={"x-tenant": "blue"}))
    made.calls(families(registry).calls, ISTIOS, found).observe(12.0)
    (labels,) = samples(registry)["istio_requests_total"]
    expected = {name: f"<{name}>" for name in LABELS if name != "source_app"}
    assert labels == {**expected, "tenant": "blue", "response_code": "2xx"}
    (durations,) = samples(registry)["istio_request_duration_milliseconds_count"]
    assert durations == {name: f"<{name}>" for name in LABELS}, "of that metric nothing is said"


def test_what_is_not_unicode_is_replaced_as_in_istios_own_labels() -> None:
    registry = CollectorRegistry()
    made = overrides(requests_total=changed(("tenant", "request.headers['x-tenant']")))
    found = values(made, MadeUp(headers={"x-tenant": "blue"}))
    labels = tuple("v\udcff" if name == "source_version" else name for name in LABELS)
    made.calls(families(registry).calls, labels, found).observe(12.0)
    assert b'source_version="v?"' in generate_latest(registry)


def test_a_metric_that_is_off_is_not_recorded_and_the_others_are() -> None:
    registry = CollectorRegistry()
    made = overrides(requests_total=MetricOverride(disabled=True), request_bytes=MetricOverride(disabled=True))
    made.calls(families(registry).calls, ISTIOS, ()).observe(1.0)
    sizes = size_families(registry)
    made.sizes("request_bytes", sizes.requests, ISTIOS, ()).observe(1.0)
    made.sizes("response_bytes", sizes.responses, ISTIOS, ()).observe(1.0)
    assert samples(registry).keys() == {"istio_request_duration_milliseconds_count", "istio_response_bytes_count"}


def test_all_can_be_off() -> None:
    registry = CollectorRegistry()
    made = overrides(disabled=True)
    for series in (
        made.calls(families(registry).calls, ISTIOS, ()),
        made.sizes("request_bytes", size_families(registry).requests, ISTIOS, ()),
    ):
        series.observe(1.0)
    made.messages("request_messages_total", message_families(registry).requests, PEERS, ()).inc(3)
    assert samples(registry) == {}


def test_metrics_of_which_nothing_is_said_are_the_series_they_always_were() -> None:
    registry = CollectorRegistry()
    made, table = overrides(request_bytes=changed(("source_app", ""))), families(registry).calls
    assert made.calls(table, ISTIOS, ()) is table.labels(*ISTIOS)
    messages = message_families(registry).requests
    assert made.messages("request_messages_total", messages, PEERS, ()) is messages.labels(*PEERS)
    assert made.sizes("response_bytes", size_families(registry).responses, ISTIOS, ()) is not NOTHING


def test_messages_have_the_labels_of_both_ends_alone() -> None:
    registry = CollectorRegistry()
    made = overrides(request_messages_total=changed(("response_code", "'1'"), ("reporter", ""), ("zone", "'a'")))
    made.messages("request_messages_total", message_families(registry).requests, PEERS, values(made)).inc(2)
    (labels,) = samples(registry)["istio_request_messages_total"]
    assert "response_code" not in labels, "a label of Istio's that the metric does not have is not added"
    assert labels == {**{name: f"<{name}>" for name in PEER_LABELS if name != "reporter"}, "zone": "a"}


def test_counts_go_on_where_only_the_other_of_two_metrics_is_changed() -> None:
    registry = CollectorRegistry()
    table = families(registry).calls
    table.labels(*ISTIOS).observe(7.0)
    made = overrides(request_duration_milliseconds=changed(("source_app", "")))
    made.calls(table, ISTIOS, ()).observe(3.0)
    (total,) = [s for f in registry.collect() for s in f.samples if s.name == "istio_requests_total"]
    assert total.value == 2.0
    counts = [
        (s.labels.get("source_app"), s.value)
        for f in registry.collect()
        for s in f.samples
        if s.name == "istio_request_duration_milliseconds_count"
    ]
    assert counts == [("<source_app>", 1.0), (None, 1.0)]


def test_what_an_expression_cannot_tell_is_unknown() -> None:
    assert values(overrides(requests_total=changed(("tenant", "request.headers['x-tenant']")))) == ("unknown",)


def test_an_expression_that_several_metrics_have_is_evaluated_once() -> None:
    made = overrides(requests_total=changed(("a", "request.method")), request_bytes=changed(("b", "request.method")))
    assert values(made) == ("GET",)
    assert made.evaluates
    assert not overrides(requests_total=changed(("source_app", ""))).evaluates


def test_the_other_workload_is_read_from_istios_labels() -> None:
    made = overrides(requests_total=changed(("peer", "upstream_peer.workload")))
    assert values(made) == ("<destination_workload>",)


def test_values_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tag_overrides, "MOST", 3)
    lost = Dropped()
    monkeypatch.setattr(tag_overrides, "dropped", lost)
    made = overrides(requests_total=changed(("tenant", "request.headers['x-tenant']")))
    found = [values(made, MadeUp(headers={"x-tenant": str(n)}))[0] for n in (1, 2, 3, 4, 5, 1)]
    assert found == ["1", "2", "3", OTHER, OTHER, "1"]
    assert made.overflowed == 2
    assert lost.counts() == {"metric_tag_values": 2}
    long = overrides(requests_total=changed(("tenant", "request.headers['x-tenant']")))
    assert values(long, MadeUp(headers={"x-tenant": "x" * 10_000})) == ("x" * LONGEST,)

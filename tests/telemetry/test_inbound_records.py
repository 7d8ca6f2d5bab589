"""Spans of served requests that a proxy writes itself say what those say that the SDK makes."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from opentelemetry import propagate
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.propagators.b3 import B3MultiFormat
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import Tracer, TracerProvider

from meshlib.clock import SystemClock
from meshlib.compiler.inbound import NOTHING
from meshlib.engine.effects import Ended
from meshlib.engine.inbound import InboundCall
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.refusal import Refusal
from meshlib.policy.telemetry_settings import CustomTag, TracingSettings
from meshlib.policy.trace_context import read_traceparent
from meshlib.telemetry import otlp_spans as otlp
from meshlib.telemetry.inbound_tracing import InboundTracing
from meshlib.telemetry.own_spans import OwnTracer
from meshlib.workload import Workload
from tests.support.spans import Kept

T, S = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = ("traceparent", f"00-{T}-{S}-01")
NOT_SAMPLED = ("traceparent", f"00-{T}-{S}-00")
IDENTIFIED = ("x-request-id", "11111111-16cd-43dd-8448-eb211c80319c")
REVIEWS = Workload("reviews-v1", labels={"app": "reviews", "version": "v1"})
Heads = Iterable[tuple[bytes, bytes]]


class Told(InboundRequest):
    """Behind a proxy: keeps what its application is told."""

    told: tuple[tuple[bytes, ...], Heads] | None = None

    def goes_on_in(self, names: Iterable[bytes], headers: Heads) -> None:
        self.told = tuple(sorted(names)), list(headers)


class _Own(Tracer):
    def __init__(self, tracer: OwnTracer, *, objects: bool) -> None:
        self.own = lambda: tracer
        self._objects = objects

    def start_span(self, *arguments: Any, **named: Any) -> Any:
        assert self._objects, "no object is made for a span"
        return self.own().start_span(*arguments, **named)

    start_as_current_span = start_span


class Ours(TracerProvider):
    """Keeps what is written. ``objects``: of spans that are objects, too."""

    def __init__(self, *, objects: bool = False) -> None:
        self.written: list[bytes] = []
        self._objects = objects

    def get_tracer(self, *_: Any, **__: Any) -> Tracer:
        return _Own(OwnTracer(self.written.append), objects=self._objects)

    @property
    def spans(self) -> list[Any]:
        request = otlp.request(otlp.resource_of({}), "meshlib", self.written)
        return list(ExportTraceServiceRequest.FromString(request).resource_spans[0].scope_spans[0].spans)


def request(*headers: tuple[str, str], **more: Any) -> Told:
    found = {"authority": "reviews:9080", "peer": "10.0.0.7:4711", "version": "HTTP/1.1", "port": 9080, **more}
    return Told(
        found.pop("method", "GET"), found.pop("path", "/reviews/1"), (*headers, ("user-agent", "curl/8")), **found
    )


def call_of(made: Told) -> InboundCall:
    return InboundCall(made, NOTHING, SystemClock(), random.Random(1))


def serve(tracing: InboundTracing, made: Told, ended: Ended | Refusal = Ended(200), delay: float = 0.0) -> None:
    call = call_of(made)
    call.started = call.clock.monotonic()
    span = tracing.started(call)
    call.injected_delay = delay
    if isinstance(ended, Refusal):
        call.refuse(ended)
    else:
        call.end(ended)
    if span is not None:
        tracing.finished(call, span)


def both(
    settings: TracingSettings, made: dict[str, Any], headers: Any, objects: bool = False, **how: Any
) -> tuple[Any, Any]:
    """What is sent of one request: by the SDK, by ourselves. Ids and times, which no two have in common, left out."""
    kept, ours = Kept(), Ours(objects=objects)
    for provider in (kept.provider, ours):
        tracing = InboundTracing(provider, REVIEWS, 1)
        tracing.reconfigured(settings)
        serve(tracing, request(*headers, **made), **how)
    kept.provider.shutdown()
    (theirs,) = encode_spans(kept.spans).resource_spans[0].scope_spans[0].spans
    (mine,) = ours.spans
    for each in (theirs, mine):
        assert (len(each.trace_id), len(each.span_id)) == (16, 8)
        assert 0 < each.start_time_unix_nano <= each.end_time_unix_nano
        if not each.parent_span_id:
            each.ClearField("trace_id")
        for name in ("span_id", "start_time_unix_nano", "end_time_unix_nano"):
            each.ClearField(name)
        for event in each.events:
            event.ClearField("time_unix_nano")
        each.attributes.sort(key=lambda pair: pair.key)
    if not theirs.status.code:
        theirs.ClearField("status")
    return theirs, mine


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"secure": True, "principal": "spiffe://cluster.local/ns/default/sa/web", "mutual": True},
        {"method": "BREW", "query": "secret=1", "authority": None},
        {"peer": "unix:", "version": "HTTP/2", "authority": "[::1]:80", "path": "/" + "x" * 500},
        {"protocol": "grpc", "path": "/a.B/C", "version": "HTTP/2"},
        {"peer": "[::ffff:10.0.0.7]:4711", "authority": "a" * 300},
    ],
    ids=["plain", "mTLS", "an odd method", "a socket", "gRPC", "IPv4 at a port of IPv6"],
)
@pytest.mark.parametrize(
    "headers",
    [
        (SAMPLED, IDENTIFIED),
        (SAMPLED, ("tracestate", "vendor=1,other=2"), IDENTIFIED, ("x-forwarded-for", "192.0.2.1, 192.0.2.2")),
        (("b3", f"{T}-{S}-1"), IDENTIFIED),
        (IDENTIFIED,),
    ],
    ids=["W3C", "forwarded", "B3", "a trace that begins here"],
)
def test_a_span_says_of_a_request_what_the_sdks_says(made, headers):
    theirs, mine = both(TracingSettings(), made, headers)
    assert mine == theirs


@pytest.mark.parametrize(
    "how",
    [
        {"ended": Ended(404)},
        {"ended": Ended(503, None, "UF")},
        {"ended": Refusal(403, "RBAC: access denied", 7, detail="rbac_access_denied_matched_policy[none]")},
        {"ended": Ended(200), "delay": 0.25},
        {"ended": Refusal(503, "fault filter abort", 14, "FI", "fault_filter_abort")},
    ],
    ids=["not found", "no application", "refused", "delayed", "aborted"],
)
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_span_says_what_came_of_it_as_the_sdks_does(how, protocol):
    if protocol == "grpc" and isinstance(how["ended"], Ended):
        how = {**how, "ended": Ended(how["ended"].status, 14, how["ended"].flag)}
    theirs, mine = both(TracingSettings(), {"protocol": protocol, "path": "/a.B/C"}, (SAMPLED, IDENTIFIED), **how)
    assert mine == theirs


def test_tags_of_the_resources_are_written():
    tags = (
        CustomTag("always", "literal", "yes"),
        CustomTag("from", "header", "x-from", "nowhere"),
        CustomTag("token", "header", "authorization", ""),
        CustomTag("took", "formatter", "%RESPONSE_CODE%"),
    )
    settings = TracingSettings(custom_tags=tags)
    theirs, mine = both(settings, {}, (SAMPLED, IDENTIFIED, ("x-from", "here"), ("authorization", "Bearer x")))
    assert mine == theirs
    told = {pair.key: pair.value.string_value for pair in mine.attributes}
    assert (told["always"], told["from"], told["took"]) == ("yes", "here", "200")
    assert "Bearer" not in told["token"]


@pytest.mark.parametrize(
    "tag",
    [
        CustomTag("http.request.method", "literal", "mine"),
        CustomTag("client.address", "header", "x-from", ""),
        CustomTag("url.scheme", "literal", "gopher"),
        CustomTag("http.response.status_code", "literal", "none"),
        CustomTag("meshlib.flags", "formatter", "%RESPONSE_CODE%"),
        CustomTag("always", "header", "x-from", ""),
    ],
    ids=lambda tag: f"{tag.name} {tag.kind}",
)
def test_a_tag_with_the_name_of_another_attribute_is_told_once_as_by_the_sdk(tag):
    settings = TracingSettings(custom_tags=(CustomTag("always", "literal", "yes"), tag))
    theirs, mine = both(settings, {}, (SAMPLED, IDENTIFIED, ("x-from", "here")), True, ended=Ended(503, None, "UF"))
    assert mine == theirs
    keys = [pair.key for pair in mine.attributes]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("state", ["a=\xe9", "a=" + "x" * 60_000, "=,=", ",".join(f"k{n}=v" for n in range(40))])
def test_a_state_of_the_trace_that_is_none_is_told_as_by_the_sdk(state):
    theirs, mine = both(TracingSettings(), {}, (SAMPLED, IDENTIFIED, ("tracestate", state)))
    assert mine == theirs
    assert len(mine.trace_state) < 20_000


def test_requests_of_one_connection_are_each_told_by_what_is_their_own():
    ours = Ours()
    tracing = InboundTracing(ours, REVIEWS, 1)
    for path, authority in (("/a", "one:80"), ("/b", "two:81"), ("/a", "one:80")):
        serve(tracing, request(SAMPLED, IDENTIFIED, path=path, authority=authority))
    told = [
        {pair.key: pair.value.string_value or pair.value.int_value for pair in each.attributes} for each in ours.spans
    ]
    assert [(each["url.path"], each["server.address"], each["server.port"]) for each in told] == [
        ("/a", "one", 80),
        ("/b", "two", 81),
        ("/a", "one", 80),
    ]


# -- what the application is told ---------------------------------------------------------------------------------------


def told_of(*headers: tuple[str, str], settings: TracingSettings | None = None) -> tuple[Told, list[Any]]:
    ours = Ours()
    tracing = InboundTracing(ours, REVIEWS, 1)
    if settings is not None:
        tracing.reconfigured(settings)
    made = request(*headers)
    serve(tracing, made)
    return made, ours.spans


def test_the_application_goes_on_below_the_span():
    made, (span,) = told_of(SAMPLED, ("tracestate", "vendor=1"), IDENTIFIED)
    assert made.told == ((b"traceparent",), [(b"traceparent", f"00-{T}-{span.span_id.hex()}-01".encode())])
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.trace_state) == (T, S, "vendor=1")


@pytest.mark.parametrize(
    "value",
    [
        f"00-{T}-{S}-01",
        f"00-{T}-{S}-03",
        f"00-{'1' * 32}-{'2' * 16}-01",
        f"00-{T.upper()}-{S}-01",
        f"00-{T}-{S.upper()}-01",
        f"00-{'0' * 32}-{S}-01",
        f"00-{T}-{'0' * 16}-01",
        f"00-{T[:-1]}g-{S}-01",
        f"00-{T[:-1]} -{S}-01",
        f"00-{T}{S[:1]}-{S[1:]}-01",
        f"00-{T[:-2]}-{S}ab-01",
        f"00-{T}-{S}ab-01",
        f"00-{T}ab-{S}-01",
        f"00-{T}-{S}-01-more",
        f"01-{T}-{S}-01-more",
        f"01-{T}-{S}-01",
        f"ff-{T}-{S}-01",
        f"00-{T}-{S}",
        "",
    ],
)
def test_a_span_is_below_the_parent_that_a_traceparent_tells_if_it_is_valid(value):
    _, (span,) = told_of(("traceparent", value))
    told = read_traceparent(value)
    if told is None:
        assert span.parent_span_id == b""
        assert span.trace_id not in (b"", bytes.fromhex(T))
    else:
        assert (int.from_bytes(span.trace_id, "big"), int.from_bytes(span.parent_span_id, "big")) == told[:2]


def test_a_trace_that_begins_here_goes_on_and_what_was_not_valid_does_not():
    made, (span,) = told_of(("traceparent", "00-zz-1-01"), ("tracestate", "vendor=1"))
    assert made.told is not None
    names, headers = made.told
    assert {b"traceparent", b"tracestate"} <= set(names)
    assert headers == [(b"traceparent", f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01".encode())]
    assert span.parent_span_id == b""
    found = made.header("x-request-id")
    assert found is not None
    assert found[14] == "9"


def test_of_a_request_that_is_not_sampled_nothing_is_written_and_it_goes_on_as_it_came():
    made, spans = told_of(NOT_SAMPLED, IDENTIFIED)
    assert (made.told, spans, made.for_application) == (None, [], None)


@pytest.mark.parametrize(("context", "reason"), [(NOT_SAMPLED, "4"), (SAMPLED, "9")])
def test_a_request_without_an_id_gets_one_with_the_decision(context, reason):
    found = told_of(context)[0].header("x-request-id")
    assert found is not None
    assert found[14] == reason


def test_a_trace_that_is_not_sampled_here_is_not_sampled_by_the_application_either():
    made, spans = told_of(settings=TracingSettings(sampling=0.0))
    assert spans == []
    assert made.told is not None
    ((name, value),) = made.told[1]
    assert name == b"traceparent"
    assert value.endswith(b"-00")


def test_a_decision_that_was_left_to_us_is_told():
    made, spans = told_of(("b3", f"{T}-{S}"), IDENTIFIED, settings=TracingSettings(sampling=0.0))
    assert spans == []
    assert made.told is not None
    assert made.told[1] == [(b"traceparent", f"00-{T}-{S}-00".encode())]


def test_a_program_may_change_the_way_that_is_spoken_between_two_requests():
    ours, before, told = Ours(), propagate.get_global_textmap(), []
    tracing = InboundTracing(ours, REVIEWS, 1)
    try:
        for textmap in (before, before, B3MultiFormat(), before):
            propagate.set_global_textmap(textmap)
            made = request(SAMPLED, IDENTIFIED)
            serve(tracing, made)
            assert made.told is not None
            told.append(dict(made.told[1]).keys())
    finally:
        propagate.set_global_textmap(before)
    w3c, b3 = {b"traceparent"}, {b"x-b3-traceid", b"x-b3-spanid", b"x-b3-sampled"}
    assert told == [w3c, w3c, b3, w3c]


def test_contexts_are_told_in_the_way_that_is_spoken():
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(B3MultiFormat())
    try:
        made, (span,) = told_of(SAMPLED, IDENTIFIED)
    finally:
        propagate.set_global_textmap(before)
    assert made.told is not None
    names, headers = made.told
    assert b"b3" in names
    assert dict(headers) == {
        b"x-b3-traceid": T.encode(),
        b"x-b3-spanid": span.span_id.hex().encode(),
        b"x-b3-sampled": b"1",
    }


def test_where_contexts_are_not_propagated_nothing_is_told():
    made, spans = told_of(SAMPLED, IDENTIFIED, settings=TracingSettings(propagates=False))
    assert (made.told, len(spans)) == (None, 1)

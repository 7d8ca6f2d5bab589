"""How traces go from program to program: what is read, what is written, who decides whether they are sampled."""

from __future__ import annotations

import uuid

import httpx
import pytest
from opentelemetry import baggage, context, propagate
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, get_current_span
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.engine.inbound_context import current
from meshlib.engine.inbound_request import InboundRequest
from meshlib.telemetry.propagation import NOBODY, Parent, Propagation, with_baggage
from tests.support.mesh_config import mesh_config
from tests.support.spans import Kept
from tests.support.telemetry import providers, telemetry

T, S = "80f198ee56343ba864fe8b2a57d3eff7", "e457b5a2e4d86bd1"
TRACE, SPAN = int(T, 16), int(S, 16)
URL = "http://reviews.example/"
EXPORTERS = [
    {"name": "zipkin", "zipkin": {"service": "zipkin.tracing.svc", "port": 9411}},
    {"name": "otel", "opentelemetry": {"service": "otel.tracing.svc", "port": 4317}},
]
CONFIG = mesh_config(extensionProviders=EXPORTERS)


@pytest.fixture
def kept():
    made = Kept()
    yield made
    made.provider.shutdown()


@pytest.fixture
def speaks():
    """Sets the program's global propagator."""
    before = propagate.get_global_textmap()
    yield propagate.set_global_textmap
    propagate.set_global_textmap(before)


def sent(kept, *resources, headers=None, calls=1, serving=None, seed=None, **options):
    """The headers of calls, as they are sent; ``serving`` are those of the request that is served meanwhile."""
    seen = []

    def answer(request):
        seen.append(dict(request.headers.items()))
        return httpx.Response(200)

    options = {"tracer_provider": kept.provider, **options} if kept is not None else options
    made = meshlib.Mesh.from_resources(list(resources), registry=CollectorRegistry(), seed=seed, **options)
    token = None if serving is None else current.set(InboundRequest("GET", "/", tuple(serving.items())))
    try:
        with made as mesh, mesh.client(transport=httpx.MockTransport(answer)) as client:
            for _ in range(calls):
                client.get(URL, headers=headers)
    finally:
        if token is not None:
            current.reset(token)
    return seen if calls > 1 else seen[0]


def tracing(by="", **entry):
    return telemetry(tracing=[{**({"providers": providers(by)} if by else {}), **entry}])


# -- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "sampled"),
    [
        ({"traceparent": f"00-{T}-{S}-01"}, True),
        ({"traceparent": f"00-{T}-{S}-02"}, False),
        ({"traceparent": f"00-{T}-{S}-03"}, True),
        ({"b3": f"{T}-{S}-1"}, True),
        ({"b3": f"{T}-{S}-0"}, False),
        ({"b3": f"{T}-{S}"}, None),
        ({"x-b3-traceid": T, "x-b3-spanid": S, "x-b3-sampled": "1"}, True),
    ],
)
def test_w3c_and_b3_are_both_read_whatever_is_spoken(headers, sampled, speaks):
    for textmap in (propagate.get_global_textmap(), B3MultiFormat(), B3SingleFormat()):
        speaks(textmap)
        for provider in ("", "zipkin", "opentelemetry"):
            found = Propagation(provider).read(headers.get)
            assert found.span is not None
            assert (found.span.trace_id, found.span.span_id, found.sampled) == (TRACE, SPAN, sampled)


def test_what_is_spoken_takes_precedence():
    other = "1" * 32
    headers = {"traceparent": f"00-{T}-{S}-01", "b3": f"{other}-{S}-1"}
    read = {kind: Propagation(kind).read(headers.get).span.trace_id for kind in ("zipkin", "opentelemetry")}
    assert read == {"zipkin": int(other, 16), "opentelemetry": TRACE}


def test_a_decision_without_a_trace():
    assert Propagation().read({"b3": "0"}.get) == Parent(None, False)
    assert Propagation().read({}.get) == NOBODY


def test_other_propagators_of_the_program_are_used_too(speaks, kept):
    class Jaeger:
        fields = frozenset({"uber-trace-id"})

        def inject(self, carrier, context=None, setter=None):
            told = get_current_span(context).get_span_context()
            carrier["uber-trace-id"] = f"{told.trace_id:x}:{told.span_id:x}:0:{int(told.trace_flags.sampled)}"

        def extract(self, carrier, context=None, getter=None):
            from opentelemetry.trace import set_span_in_context

            [value] = getter.get(carrier, "uber-trace-id") or ["0:0:0:0"]
            trace_id, span_id, _, flags = value.split(":")
            told = SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags)))
            return set_span_in_context(NonRecordingSpan(told), context)

    speaks(Jaeger())
    got = sent(kept, headers={"uber-trace-id": f"{T}:{S}:0:1"})
    [attempt], [call] = kept.attempts, kept.calls
    assert (call.parent.trace_id, call.parent.span_id) == (TRACE, SPAN)
    assert got["uber-trace-id"] == f"{TRACE:x}:{attempt.context.span_id:x}:0:1"
    assert "traceparent" not in got


# -- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resources", "names"),
    [
        ((), {"traceparent"}),
        ((CONFIG, tracing("otel")), {"traceparent"}),
        ((CONFIG, tracing("zipkin")), {"x-b3-traceid", "x-b3-spanid", "x-b3-sampled"}),
        ((mesh_config(extensionProviders=EXPORTERS, defaultProviders={"tracing": ["zipkin"]}),),
         {"x-b3-traceid", "x-b3-spanid", "x-b3-sampled"}),
    ],
)  # fmt: skip
def test_the_provider_of_the_resources_says_what_is_spoken(kept, resources, names):
    got = sent(kept, *resources)
    assert {name for name in got if name.startswith(("trace", "b3", "x-b3"))} == names
    [attempt] = kept.attempts
    assert f"{attempt.context.trace_id:032x}" in "".join(got[name] for name in names)
    assert f"{attempt.context.span_id:016x}" in "".join(got[name] for name in names)


@pytest.mark.parametrize(
    ("textmap", "names"),
    [(B3SingleFormat(), {"b3"}), (B3MultiFormat(), {"x-b3-traceid", "x-b3-spanid", "x-b3-sampled"})],
)
def test_without_a_provider_the_programs_propagator_does(kept, speaks, textmap, names):
    speaks(textmap)
    got = sent(kept)
    assert {name for name in got if name.startswith(("trace", "b3", "x-b3"))} == names


@pytest.mark.parametrize("name", ["b3", "traceparent"])
def test_a_trace_that_the_request_carries_goes_on(kept, name):
    value = {"b3": f"{T}-{S}-1", "traceparent": f"00-{T}-{S}-01"}[name]
    got = sent(kept, headers={name: value})
    [attempt], [call] = kept.attempts, kept.calls
    assert (call.parent.trace_id, call.parent.span_id, call.parent.is_remote) == (TRACE, SPAN, True)
    assert got["traceparent"] == f"00-{T}-{attempt.context.span_id:016x}-01"


@pytest.mark.parametrize(
    ("came", "speaks_single"),
    [({"b3": f"{T}-{S}-1"}, False), ({"x-b3-traceid": T, "x-b3-spanid": S, "x-b3-parentspanid": S}, True)],
)
def test_b3_in_the_form_that_is_not_written_goes_as_it_would_contradict(kept, speaks, came, speaks_single):
    speaks(B3SingleFormat() if speaks_single else B3MultiFormat())
    head = sent(kept, headers=came)
    assert ("b3" in head, "x-b3-spanid" in head) == (speaks_single, not speaks_single)
    told = head["b3"].split("-") if speaks_single else [head["x-b3-traceid"], head["x-b3-spanid"]]
    assert told[0] == T
    assert told[1] != S


def test_a_context_copied_from_the_request_that_is_served_is_replaced_by_that_of_the_attempt(kept):
    """As Istio asks of applications: the call is below the span of what is served, not beside it."""
    copied = {"traceparent": f"00-{T}-{S}-01"}
    with kept.provider.get_tracer("t").start_as_current_span("serving", parent_of(T, S)) as serving:
        got = sent(kept, headers=copied, serving=copied)
    [call], [attempt] = [span for span in kept.calls if span.name == "GET"], kept.attempts
    assert call.parent.span_id == serving.get_span_context().span_id
    assert got["traceparent"].split("-")[1:3] == [T, f"{attempt.context.span_id:016x}"]


def test_the_trace_of_the_request_that_is_served_goes_on_where_its_own_span_is_not_recorded(kept):
    got = sent(kept, serving={"b3": f"{T}-{S}-1", "x-request-id": "mine"})
    [call] = kept.calls
    assert (call.parent.trace_id, call.parent.span_id) == (TRACE, SPAN)
    assert (got["traceparent"].split("-")[1], got["x-request-id"]) == (T, "mine")


def test_context_propagation_is_switched_off(kept):
    got = sent(kept, tracing(disableContextPropagation=True))
    assert "traceparent" not in got
    assert len(kept.calls) == 1


def test_baggage_that_nobody_has_changed_goes_on_as_it_came(kept):
    """OpenTelemetry's propagator would make ``a%3Bttl%3D2`` of the property."""
    came = "team=a;ttl=2, user=J%20S,flag"
    token = context.attach(with_baggage({"baggage": came}.get))
    try:
        assert sent(kept)["baggage"] == came
        inner = context.attach(baggage.set_baggage("user", "other"))
        try:
            assert "user=other" in sent(kept)["baggage"]
        finally:
            context.detach(inner)
    finally:
        context.detach(token)
    assert "baggage" not in sent(kept)


def test_baggage_goes_on(kept):
    token = context.attach(baggage.set_baggage("user", "jason"))
    try:
        assert sent(kept)["baggage"] == "user=jason"
        assert sent(kept, headers={"baggage": "own=1"})["baggage"] == "own=1"
    finally:
        context.detach(token)
    assert "baggage" not in sent(kept)


def test_where_spans_are_switched_off_the_context_around_goes_on(kept):
    off = tracing(disableSpanReporting=True)
    token = context.attach(parent_of(T, S))
    try:
        got = sent(kept, off)
    finally:
        context.detach(token)
    assert got["traceparent"] == f"00-{T}-{S}-01"
    assert kept.spans == ()
    assert sent(kept, off, serving={"b3": f"{T}-{S}-1"})["b3"] == f"{T}-{S}-1"


def parent_of(trace_id, span_id, flags=1):
    from opentelemetry.trace import set_span_in_context

    told = SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(flags))
    return set_span_in_context(NonRecordingSpan(told), context.Context())


# -- sampling ---------------------------------------------------------------------------------------------------------


def test_the_percentage_applies_to_new_traces_and_what_is_not_sampled_says_so(kept):
    got = sent(kept, tracing(randomSamplingPercentage=10), calls=300, seed=1)
    flags = [headers["traceparent"].split("-")[3] for headers in got]
    sampled = sum(int(flag, 16) & 1 for flag in flags)
    assert 10 < sampled < 60
    assert len(kept.calls) == sampled
    assert [headers["x-request-id"][14] for headers in got] == ["9" if int(f, 16) & 1 else "4" for f in flags]
    assert len({headers["traceparent"].split("-")[1] for headers in got}) == 300


def test_a_seed_decides_the_same_again(kept):
    runs = [
        [headers["x-request-id"] for headers in sent(kept, tracing(randomSamplingPercentage=50), calls=20, seed=3)]
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    other = sent(kept, tracing(randomSamplingPercentage=50), calls=20, seed=4)
    assert runs[0] != [headers["x-request-id"] for headers in other]


@pytest.mark.parametrize(
    ("headers", "percentage", "recorded"),
    [
        ({"traceparent": f"00-{T}-{S}-01"}, 0, True),
        ({"traceparent": f"00-{T}-{S}-00"}, 100, False),
        ({"b3": f"{T}-{S}-1"}, 0, True),
        ({"b3": f"{T}-{S}-0"}, 100, False),
        ({"b3": f"{T}-{S}"}, 0, False),
        ({"b3": f"{T}-{S}"}, 100, True),
        ({"b3": "1"}, 0, True),
        ({"b3": "0"}, 100, False),
        ({"x-request-id": "00002710-0000-9000-8000-000000000000"}, 0, True),
        ({"x-request-id": "00000000-0000-4000-8000-000000000000"}, 0.01, True),
        ({"x-request-id": "00000001-0000-4000-8000-000000000000"}, 0.01, False),
        ({"x-envoy-force-trace": "1"}, 0, True),
        ({}, 0, False),
        ({}, 100, True),
    ],
)
def test_who_decides(kept, headers, percentage, recorded):
    got = sent(kept, tracing(randomSamplingPercentage=percentage), headers=headers)
    assert bool(kept.calls) is recorded
    assert bool(int(got["traceparent"].split("-")[3], 16) & 1) is recorded
    if "x-request-id" in headers:
        assert got["x-request-id"] == headers["x-request-id"], "an id that is there is kept"


def test_without_the_request_id_the_percentage_is_drawn_by_itself(kept):
    off = tracing(randomSamplingPercentage=0, useRequestIdForTraceSampling=False)
    got = sent(kept, off, headers={"x-request-id": "00002710-0000-9000-8000-000000000000"})
    assert kept.calls == []
    assert got["x-request-id"][14] == "9"
    made = sent(kept, tracing(randomSamplingPercentage=100, useRequestIdForTraceSampling=False))
    assert (len(kept.calls), made["x-request-id"][14]) == (1, "4")


def test_the_sdks_own_sampler_has_the_last_word():
    kept = Kept(sampler=ALWAYS_OFF)
    got = sent(kept, tracing(randomSamplingPercentage=100))
    assert kept.spans == ()
    assert int(got["traceparent"].split("-")[3], 16) & 1 == 0
    assert got["x-request-id"][14] == "4"


# -- x-request-id -----------------------------------------------------------------------------------------------------


def test_a_request_without_an_id_gets_one_of_its_own(kept):
    ids = [headers["x-request-id"] for headers in sent(kept, calls=3)]
    assert len(set(ids)) == 3
    assert {uuid.UUID(each).variant for each in ids} == {uuid.RFC_4122}
    assert {each[14] for each in ids} == {"9"}


def test_without_a_tracer_and_without_settings_there_is_none():
    assert "x-request-id" not in sent(None)
    assert sent(None, serving={"x-request-id": "mine"})["x-request-id"] == "mine"


def test_where_the_resources_speak_of_tracing_there_is_one_without_a_tracer_too():
    got = sent(None, tracing(randomSamplingPercentage=100), calls=2)
    assert [headers["x-request-id"][14] for headers in got] == ["9", "9"]
    assert "traceparent" not in got[0]


def test_custom_tags_are_on_the_spans(kept):
    tags = {
        "team": {"literal": {"value": "shop"}},
        "user": {"header": {"name": "end-user"}},
        "line": {"formatter": {"value": "%REQ(:METHOD)% -> %RESPONSE_CODE%"}},
        "nothing": {"formatter": {"value": "%REQ(x-absent)%"}},
        "door": {"formatter": {"value": "%REQ(authorization)%"}},
    }
    sent(kept, tracing(customTags=tags), headers={"end-user": "jason", "authorization": "canary"})
    [call] = kept.calls
    told = {name: call.attributes.get(name) for name in tags}
    assert told == {"team": "shop", "user": "jason", "line": "GET -> 200", "nothing": None, "door": "***"}

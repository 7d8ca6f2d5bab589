"""Spans written by hand are what OpenTelemetry's own encoder writes, field by field."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from meshlib.telemetry import otlp_spans as otlp

TRACE, SPAN, PARENT = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, 0x00F067AA0BA902B7
RESOURCE = {"service.name": "web", "process.pid": 7}
START, END = 1_795_000_000_000_000_001, 1_795_000_000_000_250_000
SAMPLED = TraceFlags(1)


def of_the_sdk(name: str, kind: SpanKind, attributes: dict[str, Any], **more: Any) -> Any:
    parent = more.pop("parent", None)
    state = more.pop("state", None)
    span = ReadableSpan(
        name,
        SpanContext(TRACE, SPAN, False, SAMPLED, TraceState(state)),
        parent,
        Resource(RESOURCE),
        attributes,
        kind=kind,
        start_time=START,
        end_time=END,
        instrumentation_scope=InstrumentationScope("meshlib", ""),
        **more,
    )
    return encode_spans([span])


def ours(name: str, kind: int, rest: bytes, parent: bytes = b"", flags: int = otlp.LOCAL, state: bytes = b"") -> Any:
    made = otlp.span(
        TRACE.to_bytes(16, "big"), SPAN.to_bytes(8, "big"), parent, name.encode(), kind, START, END, rest, flags, state
    )
    return ExportTraceServiceRequest.FromString(otlp.request(otlp.resource_of(RESOURCE), "meshlib", [made]))


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"http.request.method": "GET", "url.path": "/a", "server.port": 80, "http.response.status_code": 200},
        {"text": "x" * 113, "longer": "y" * 114, "much longer": "z" * 300, "k" * 200: "long key", "empty": ""},
        {"none": 0, "small": 127, "two bytes": 128, "large": 1 << 40, "negative": -1, "least": -(1 << 63)},
        {"true": True, "false": False, "half": 0.5, "several": ("a", "b"), "numbers": (1, -2), "umlaut": "schön"},
    ],
)
def test_a_span_has_the_attributes_that_opentelemetrys_encoder_writes(attributes):
    theirs = of_the_sdk("GET", SpanKind.SERVER, attributes)
    theirs.resource_spans[0].scope_spans[0].spans[0].ClearField("status")  # theirs is there, and says nothing
    assert ours("GET", otlp.SERVER, otlp.attributes(attributes)) == theirs


@pytest.mark.parametrize("key", [1, 40, 122, 123, 130, 16_000, 16_400])
def test_texts_of_all_lengths_are_those_of_opentelemetrys_encoder(key):
    lengths = [*range(80, 135), *range(255, 259), 4000, 4096]
    attributes = {f"{length:05}" + "k" * (key - 1): "x" * length for length in lengths}
    theirs = of_the_sdk("GET", SpanKind.SERVER, attributes)
    theirs.resource_spans[0].scope_spans[0].spans[0].ClearField("status")
    assert ours("GET", otlp.SERVER, otlp.attributes(attributes)) == theirs


def test_parent_state_events_and_status_are_those_of_opentelemetrys_encoder():
    told: dict[str, Any] = {"meshlib.attempt": 2, "meshlib.reason": "503", "meshlib.backoff": 0.25}
    theirs = of_the_sdk(
        "GET /reviews/{id}",
        SpanKind.CLIENT,
        {"a": "b"},
        parent=SpanContext(TRACE, PARENT, True, SAMPLED),
        state=[("vendor", "1"), ("other", "2")],
        events=[Event("meshlib.retry", told, START)],
        status=Status(StatusCode.ERROR, "UC"),
    )
    rest = otlp.attributes({"a": "b"}) + otlp.event("meshlib.retry", START, told) + otlp.status(True, "UC")
    parent = PARENT.to_bytes(8, "big")
    found = ours("GET /reviews/{id}", otlp.CLIENT, rest, parent, otlp.REMOTE, b"vendor=1,other=2")
    assert found == theirs


def test_several_spans_are_one_request():
    one = otlp.span(bytes(16), bytes(8), b"", b"a", otlp.CLIENT, 1, 2, b"", otlp.LOCAL)
    two = otlp.span(bytes(16), bytes(8), b"", b"b" * 200, otlp.CLIENT, 1, 2, b"", otlp.LOCAL)
    found = ExportTraceServiceRequest.FromString(otlp.request(otlp.resource_of({}), "meshlib", [one, two] * 100))
    assert [span.name for span in found.resource_spans[0].scope_spans[0].spans] == ["a", "b" * 200] * 100


def test_what_is_too_long_is_cut_and_what_is_no_text_is_no_error():
    attributes = {"long": "x" * 10_000, "surrogate": "a\udc80", "none": None, "other": {"a": 1}.keys()}
    found = ours("a", otlp.SERVER, otlp.attributes(attributes))
    told = {pair.key: pair.value.string_value for pair in found.resource_spans[0].scope_spans[0].spans[0].attributes}
    assert told == {"long": "x" * otlp.LONGEST, "surrogate": "a?", "other": "dict_keys(['a'])"}
    assert otlp.status(False) == b""


@pytest.mark.parametrize("length", [0, 1, 100, 1000, 5000, 20_000])
@pytest.mark.parametrize("state", [b"", b"vendor=1"])
@pytest.mark.parametrize("parent", [PARENT, 0])
def test_a_span_of_a_server_is_joined_of_pieces_in_any_order(length, parent, state):
    rest = [otlp.attribute("k", 1), otlp.attribute("long", "x" * length), otlp.attribute("l", "y" * (length // 2))]
    ids = TRACE.to_bytes(16, "big"), SPAN.to_bytes(8, "big"), parent.to_bytes(8, "big") if parent else b""
    flags = otlp.REMOTE if parent else otlp.LOCAL
    usual = otlp.span(*ids, b"GET", otlp.SERVER, START, END, b"".join(rest), flags, state)
    ours = otlp.ids(b"%032x" % TRACE, b"%016x" % SPAN, b"%016x" % parent if parent else b"", state)
    times = otlp.times(0x39, START, 0x41, END)
    made = otlp.served((ours, times, otlp.named(b"GET"), *rest))
    found = [ExportTraceServiceRequest.FromString(otlp.request(b"", "meshlib", [each])) for each in (made, usual)]
    assert found[0] == found[1]


def test_what_stands_before_a_value_is_known_by_its_length():
    named = otlp.Named("url.path")
    for length in (*range(300), otlp.LONGEST):
        assert named[length] + b"x" * length == otlp.attribute("url.path", "x" * length)
    assert len(named) == 301


@pytest.mark.parametrize("length", [4097, 8192, 16383, 16384, 20_000, 3_000_000])
def test_a_value_of_more_bytes_than_characters_are_kept_spoils_no_other_span(length):
    told = KeyValue.FromString(entry_of(otlp.Named("url.path")[length] + b"x" * length))
    assert (told.key, told.value.string_value) == ("url.path", "x" * length)


def test_no_more_lengths_are_kept_than_are_usual():
    named = otlp.Named("url.path")
    for length in range(2 * otlp.LONGEST):
        assert named[length]
    assert len(named) <= otlp.LONGEST + 1


def entry_of(data: bytes) -> bytes:
    """What is in a field, whose length is before it."""
    at, length, bits = 1, 0, 0
    while True:
        byte = data[at]
        length |= (byte & 127) << bits
        at, bits = at + 1, bits + 7
        if byte < 128:
            assert len(data) == at + length
            return data[at:]

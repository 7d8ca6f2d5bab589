"""Trace contexts in headers, compared with OpenTelemetry's own propagators."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from meshlib.policy.trace_context import (
    NOTHING,
    Told,
    read_b3,
    read_in_hex,
    read_traceparent,
    usual_traceparent,
    write_b3,
    write_single_b3,
    write_traceparent,
)

TRACE, SPAN = 0x80F198EE56343BA864FE8B2A57D3EFF7, 0xE457B5A2E4D86BD1
T, S = f"{TRACE:032x}", f"{SPAN:016x}"

ids = st.tuples(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())


def theirs(propagator: Any, headers: dict[str, str]) -> tuple[int, int, bool]:
    told = get_current_span(propagator.extract(headers, context=Context())).get_span_context()
    return told.trace_id, told.span_id, told.trace_flags.sampled


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"b3": f"{T}-{S}-1"}, Told(TRACE, SPAN, True)),
        ({"b3": f"{T}-{S}-0-{S}"}, Told(TRACE, SPAN, False)),
        ({"b3": f"{T}-{S}-d"}, Told(TRACE, SPAN, True)),
        ({"b3": f"{T}-{S}"}, Told(TRACE, SPAN, None)),
        ({"b3": f"{T.upper()}-{S.upper()}-1"}, Told(TRACE, SPAN, True)),
        ({"b3": f"{T[16:]}-{S}-1"}, Told(TRACE & (1 << 64) - 1, SPAN, True)),
        ({"b3": "0"}, Told(sampled=False)),
        ({"b3": "d"}, Told(sampled=True)),
        ({"x-b3-traceid": T, "x-b3-spanid": S, "x-b3-sampled": "1"}, Told(TRACE, SPAN, True)),
        ({"x-b3-traceid": T, "x-b3-spanid": S, "x-b3-sampled": "false"}, Told(TRACE, SPAN, False)),
        ({"x-b3-traceid": T, "x-b3-spanid": S, "x-b3-sampled": "0", "x-b3-flags": "1"}, Told(TRACE, SPAN, True)),
        ({"x-b3-traceid": T, "x-b3-spanid": S}, Told(TRACE, SPAN, None)),
        ({"x-b3-sampled": "0"}, Told(sampled=False)),
        ({"b3": f"{T}-{S}-1", "x-b3-traceid": S, "x-b3-spanid": S}, Told(TRACE, SPAN, True)),
        ({"b3": "nonsense", "x-b3-traceid": T, "x-b3-spanid": S}, Told(TRACE, SPAN, None)),
    ],
)
def test_what_b3_headers_tell(headers, told):
    assert read_b3(headers.get) == told


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"b3": ""},
        {"b3": f"{T}-{S}-2"},
        {"b3": f"{'0' * 32}-{S}-1"},
        {"b3": f"{T}-{'0' * 16}-1"},
        {"b3": f"{T}-{S}-1\n"[:-1] + "x"},
        {"b3": f"{T[:-1]}-{S}-1"},
        {"x-b3-traceid": T},
        {"x-b3-traceid": "٣" * 32, "x-b3-spanid": S},
        {"x-b3-traceid": "0" * 32, "x-b3-spanid": S},
        {"x-b3-sampled": "perhaps"},
    ],
)
def test_what_is_not_valid_is_as_if_it_were_not_there(headers):
    assert read_b3(headers.get) == NOTHING


@given(st.text(st.characters(max_codepoint=255), max_size=80))
def test_no_header_makes_reading_fail(value):
    for name in ("b3", "x-b3-traceid", "x-b3-sampled"):
        read_b3({name: value}.get)


@given(ids)
def test_what_is_written_is_read_by_opentelemetrys_propagators_and_by_us(span):
    single = {name.decode(): value.decode() for name, value in write_single_b3(*span)}
    several = {name.decode(): value.decode() for name, value in write_b3(*span)}
    assert theirs(B3SingleFormat(), single) == theirs(B3MultiFormat(), several) == span
    assert read_b3(single.get) == read_b3(several.get) == Told(*span)
    name, value = write_traceparent(span[0], span[1], int(span[2]))
    assert theirs(TraceContextTextMapPropagator(), {name.decode(): value.decode()}) == span


PARTS = st.tuples(
    st.sampled_from(["", " ", "\t "]),
    st.sampled_from(["00", "01", "ff", "0", "0g", "cc"]),
    st.sampled_from([T, "0" * 32, T[:-1], T.upper(), "f" * 32]),
    st.sampled_from([S, "0" * 16, S[1:], S.upper(), "1" * 16]),
    st.sampled_from(["00", "01", "03", "ff", "1", "0x"]),
    st.sampled_from(["", "-", "-what comes later", " ", "-01", "x"]),
)


@given(PARTS)
def test_a_traceparent_is_read_as_by_opentelemetrys_propagator(parts):
    blank, version, trace, span, flags, more = parts
    value = f"{blank}{version}-{trace}-{span}-{flags}{more}"
    told = TraceContextTextMapPropagator().extract({"traceparent": value}, context=Context())
    found = get_current_span(told).get_span_context()
    wanted = (found.trace_id, found.span_id, int(found.trace_flags)) if found.is_valid else None
    assert read_traceparent(value) == wanted
    match = usual_traceparent(value.encode())
    in_hex = read_in_hex(value.encode()) if match is None else match.groups()
    assert (None if in_hex is None else tuple(int(part, 16) for part in in_hex)) == wanted
    if in_hex is not None:
        assert [len(part) for part in in_hex] == [32, 16, 2]


def test_nearly_all_traceparents_are_read_in_one_look():
    assert usual_traceparent(f"00-{T}-{S}-01".encode()).groups() == (T.encode(), S.encode(), b"01")
    for none in (
        f"00-{'0' * 32}-{S}-01",
        f"00-{T}-{'0' * 16}-01",
        f"ff-{T}-{S}-01",
        f"00-{T}-{S}-01-",
        f"00-{T}-{S}-0g",
    ):
        assert usual_traceparent(none.encode()) is None

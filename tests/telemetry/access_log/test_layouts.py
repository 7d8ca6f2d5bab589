"""Functions for the names of headers: they write what the long way writes, are made for what comes often, and are few."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.engine.call import Call
from meshlib.engine.wanted_headers import LONGEST
from meshlib.policy.telemetry_settings import AccessLog
from meshlib.telemetry.access_log import alike, layouts
from meshlib.telemetry.access_log.layouts import Layouts, placed, taken_apart
from meshlib.telemetry.access_log.line_code import Kind, Reading
from meshlib.telemetry.access_log.logs import line_of, lines_alike
from meshlib.telemetry.access_log.made import MADE, MadeEntry
from meshlib.transport.httpx import request as httpx_request
from meshlib.transport.httpx.request import HttpxRequest
from tests.support.resources import destination_rule, pod, service, to, virtual_service

OPERATORS = [
    "REQ(X-A)", "REQ(X-B)", "REQ(X-A?X-B)", "REQ(X-B?:PATH)", "REQ(X-A):2", "REQ(AUTHORIZATION)", "REQ(REFERER)", "REQ(:PATH)",
    "REQ(X-ENVOY-ORIGINAL-PATH?:PATH)", "REQ(:AUTHORITY)", "REQ(HOST)", "REQ(:METHOD)", "PATH", "STREAM_ID", "START_TIME",
    "START_TIME(%s)", "DURATION", "BYTES_RECEIVED", "BYTES_SENT", "RESPONSE_CODE", "UPSTREAM_LOCAL_ADDRESS", "UPSTREAM_HOST",
 "RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)", "RESP(CONTENT-LENGTH)", "RESPONSE_FLAGS", "PROTOCOL",
]  # fmt: skip
NAMES = ["x-a", "X-B", "x-b", "authorization", "x-envoy-original-path", "x-request-id", "host", "accept", "referer"]
LITERALS = st.sampled_from(["", " ", '"', "\\", "{0}", "%%", "\u00e9", "' + \""])
VALUES = st.one_of(
    st.sampled_from([b"", b"1", b"/a?token=t", b'a"b', b"a\\b", b"\xe9", b"\xc3\xa9", b"{has0}"]), st.binary(max_size=9)
)
TEXTS = st.lists(st.tuples(LITERALS, st.sampled_from(OPERATORS)), min_size=6, max_size=9).map(
    lambda parts: "".join([f"{literal}%{operator}%" for literal, operator in parts])
)
ONE = st.sampled_from(OPERATORS).map("%{}%".format)
TODAY = 1_700_000_000.0


@pytest.fixture(scope="module")
def call() -> Iterator[Call]:
    """One that has been made."""
    calls: list[Any] = []
    resources = [
        service("reviews"), pod("reviews", "v1", 9081), destination_rule("reviews", "v1"),
        virtual_service("reviews", {"name": "the-rule", "route": [to("reviews", "v1")]}),
    ]  # fmt: skip
    log = {"access_log": "/dev/null", "access_log_format": "%PATH%"}
    with meshlib.Mesh.from_resources(resources, registry=CollectorRegistry(), **log) as mesh:
        mesh._core.telemetry.ended = lambda call, _span: calls.append(call)  # type: ignore[method-assign]
        transport = mesh.http_transport(httpx.MockTransport(lambda _: httpx.Response(200, content=b"12345")))
        with httpx.Client(transport=transport) as client:
            client.get("http://reviews:9080/")
        yield calls[0]


def request_of(headers: list[tuple[bytes, bytes]], body: bytes | None = None) -> HttpxRequest:
    """One whose headers are its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx_request, "headers_as_known", set())
        return HttpxRequest(httpx.Request("POST", "http://reviews:9080/first?token=t", headers=headers), body)


@settings(max_examples=300)
@given(
    wanted=st.one_of(
        TEXTS.map(lambda text: AccessLog("", text=text)),
        st.lists(st.one_of(ONE, ONE, ONE, TEXTS), min_size=6).map(lambda values: AccessLog("", labels={"all": values})),
    ),
    headers=st.lists(st.tuples(st.sampled_from(NAMES), VALUES), min_size=2, max_size=6),
    changed=st.sampled_from([False, False, False, True]),
    omits=st.sampled_from([False, False, False, True]),
    started=st.floats(5.0, 7.0),
    took=st.floats(0.0, 3.0),
    upstream_ms=st.one_of(st.none(), st.floats(0.0, 3.0)),
    body=st.sampled_from([None, b"", b"123"]),
    flags=st.sampled_from(["", "URX"]),
)
@example(
    wanted=AccessLog("", text="%PATH%"), headers=[("x-envoy-original-path", b"")], changed=False, omits=False, started=5.0,
    took=0.0, upstream_ms=None, body=None, flags="",
)  # fmt: skip
@example(
    wanted=AccessLog("", text="%REQ(:AUTHORITY)% %BYTES_RECEIVED%"), headers=[("host", b""), ("x-a", b"1")], changed=False,
    omits=False, started=5.0, took=0.0, upstream_ms=None, body=b"", flags="",
)  # fmt: skip
def test_a_line_is_that_of_the_long_way(
    call: Call, wanted: AccessLog, headers: list[tuple[str, bytes]], changed: bool, omits: bool, started: float,
    took: float, upstream_ms: float | None, body: bytes | None, flags: str,
) -> None:  # fmt: skip
    wanted = replace(wanted, omit_empty=omits)
    request = request_of([(name.encode(), value) for name, value in headers], body)
    if changed:  # by a rule
        request.headers = [*request.headers, (b"x-a", b"of a rule")]
    call.request = request
    record, ended = call.record, started + took
    put: list[Any] = []
    expected = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alike, "PLAIN", False)
        patch.setattr(layouts, "OFTEN", 2)
        lines = lines_alike(wanted, MADE, lambda line, _: put.append(line), lambda: TODAY + ended)
        if lines is None:
            assert omits
            return
        long_way = line_of(wanted, lambda: TODAY + ended)
        for status, said in ((200, ""), (200, ""), (200, ""), (404, ""), (404, flags)):
            record.started, record.upstream_ms, record.status, record.flags = started, upstream_ms, status, said
            assert lines.write(call, ended, None)
            expected.append(long_way(MadeEntry(call, ended, TODAY + ended, None, False)))
    shown = [each[0](each) if type(each) is tuple else each for each in put]
    assert [each.decode() if type(each) is bytes else each for each in shown] == expected


def test_the_function_is_used_for_the_names_it_is_made_for(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "PLAIN", False)
    monkeypatch.setattr(layouts, "OFTEN", 2)
    put: list[Any] = []
    lines = lines_alike(AccessLog("", text="%REQ(X-A)%"), MADE, lambda line, _: put.append(line), lambda: TODAY)
    assert lines is not None
    call.record.flags = ""

    def made(*names: str) -> int:
        for n in range(3):
            call.request = request_of([(name.encode(), f"{name}{n}".encode()) for name in names])
            assert lines.write(call, 7.0, None)
        return len(lines._there)

    assert [made("x-b", "x-a"), made("x-a", "x-b"), made("x-b"), made("x-a", "x-a")] == [1, 2, 3, 3]
    assert put == [f"x-a{n}\n".encode() for n in range(3)] * 2 + [b"-\n"] * 3 + [
        f"x-a{n},x-a{n}\n".encode() for n in range(3)
    ]
    assert all(each._known for each in lines._there)
    of_names = [*lines._there]
    lines.forget()
    assert not any(each._known for each in of_names)
    assert made("x-b", "x-a") == 1


def test_names_are_met_often_before_there_is_a_function() -> None:
    """To make one takes as long as many calls."""
    made: list[Any] = []
    of_names = Layouts(("x-a", "x-b"), lambda places, count: made.append((places, count)) or len)
    for _ in range(layouts.OFTEN - 1):
        of_names.meet(b"x-b\nx-c")
    assert not made
    assert of_names.find(b"x-b\nx-c") is None
    of_names.meet(b"x-b\nx-c")
    assert made == [({"x-a": None, "x-b": 0}, 2)]
    assert of_names.find(b"x-b\nx-c") is len


def test_functions_are_few_whatever_strangers_send() -> None:
    made: list[Any] = []
    of_names = Layouts(("x-a",), lambda places, count: made.append((places, count)) or len)
    for n in range(3 * layouts.MOST_MET):
        of_names.meet(b"once-%d" % n)
        assert len(of_names._met) <= layouts.MOST_MET
    assert not made
    for n in range(3 * layouts.MOST):
        for _ in range(layouts.OFTEN):
            of_names.meet(b"often-%d" % n)
    assert len(made) == layouts.MOST


def test_names_for_which_no_function_is_made_take_no_room() -> None:
    """Strangers can send as many as they like."""
    made: list[Any] = []
    of_names = Layouts(("x-a",), lambda places, count: made.append((places, count)) or len)
    for n in range(layouts.MOST):
        for _ in range(layouts.OFTEN):
            of_names.meet((b"x-a", b"X-%d" % n))
            of_names.meet(b"x-a\nx-%d\nx-a" % n)
    assert not made
    for _ in range(layouts.OFTEN):
        of_names.meet((b"x-a",))
    assert made == [({"x-a": 0}, 1)]


def test_there_is_room_again_when_all_is_forgotten() -> None:
    made: list[Any] = []
    of_names = Layouts(("x-a",), lambda places, count: made.append((places, count)) or len)
    for _ in range(2):
        for n in range(layouts.MOST + 1):
            for _ in range(layouts.OFTEN):
                of_names.meet(b"often-%d" % n)
        of_names.forget()
        assert of_names.find(b"often-0") is None
    assert len(made) == 2 * layouts.MOST


@pytest.mark.parametrize("more", [0, 20])
def test_a_name_with_a_line_end_is_not_two(call: Call, monkeypatch: pytest.MonkeyPatch, more: int) -> None:
    monkeypatch.setattr(alike, "PLAIN", False)
    monkeypatch.setattr(layouts, "OFTEN", 2)
    put: list[Any] = []
    lines = lines_alike(AccessLog("", text="%REQ(X-B)%"), MADE, lambda line, _: put.append(line), lambda: TODAY)
    assert lines is not None
    monkeypatch.setattr(call.record, "flags", "")
    others = [(b"n%d" % n, b"") for n in range(more)]

    def write(*headers: tuple[bytes, bytes]) -> bool:
        monkeypatch.setattr(call, "request", request_of([*headers, *others]))
        return lines.write(call, 7.0, None)

    assert all(write((b"x-a", b"1"), (b"x-b", b"2")) for _ in range(3))
    assert len(lines._there) == 1
    assert not write((b"x-a\nx-b", b"1"))
    assert put == [b"2\n"] * 3


def test_long_names_are_not_kept() -> None:
    """Strangers choose them."""
    made: list[Any] = []
    of_names = Layouts(("x-a",), lambda places, count: made.append((places, count)) or len)
    longest = b"n" * (LONGEST - 4)
    for _ in range(layouts.OFTEN):
        of_names.meet(b"x-a\n" + longest + b"n")
        of_names.meet((b"x-a", longest + b"nn"))
    assert not made
    assert not of_names._met
    for _ in range(layouts.OFTEN):
        of_names.meet(b"x-a\n" + longest)
        of_names.meet((b"x-a", longest + b"n"))
    assert made == [({"x-a": 0}, 2)] * 2


class _Socket:
    """A connection that keeps no text of its address."""

    def get_extra_info(self, _name: str) -> object:
        return "127.0.0.9", 4711


@pytest.mark.parametrize(
    ("stream", "shown"), [(None, b"-\n"), (_Socket(), b"127.0.0.9:4711\n")], ids=["none", "socket"]
)
def test_a_connection_need_not_keep_the_text_of_its_address(
    call: Call, monkeypatch: pytest.MonkeyPatch, stream: object, shown: bytes
) -> None:
    monkeypatch.setattr(alike, "PLAIN", False)
    monkeypatch.setattr(layouts, "OFTEN", 2)
    put: list[Any] = []
    wanted = AccessLog("", text="%UPSTREAM_LOCAL_ADDRESS%")
    lines = lines_alike(wanted, MADE, lambda line, _: put.append(line), lambda: TODAY)
    assert lines is not None
    assert call.outcome is not None
    monkeypatch.setattr(call.outcome, "stream", stream)
    monkeypatch.setattr(call.record, "flags", "")
    monkeypatch.setattr(call, "request", request_of([(b"x-a", b"1")]))
    for _ in range(3):
        assert lines.write(call, 7.0, None)
    assert len(lines._there) == 1
    assert put == [shown] * 3


@pytest.mark.parametrize(
    "places", [{"a": 2, "b": 0}, {"a": 2, "b": 0, "c": None}, {"a": 3, "b": 3}, {"a": None}], ids=repr
)
@pytest.mark.parametrize("count", [4, 30])
def test_the_values_are_taken_from_their_places(places: dict[str, int | None], count: int) -> None:
    names: dict[str, Any] = {}
    exec(f"def taken(headers):\n{taken_apart(places, count)}\n    return locals()", names)
    found = names["taken"]([(f"n{n}", f"v{n}") for n in range(count)])
    assert {key: value for key, value in found.items() if key[0] == "p"} == {
        f"p{place}": f"v{place}" for place in places.values() if place is not None
    }
    assert [names["taken"]([("n", "v")] * n) for n in (count - 1, count + 1)] == [False, False]


@pytest.mark.parametrize(
    ("reading", "places", "code"),
    [
        (Reading("{0}", None, headers=("a",), absent="not {has0}"), {"a": 3}, "p3"),
        (Reading("{0}", None, headers=("a",), absent="not {has0}"), {"a": None}, None),
        (Reading("{0} or f()", None, headers=("a",), there=True), {"a": None}, "empty or f()"),
        (Reading("len(call)", None, Kind.NUMBER), {}, "len(call)"),
    ],
)
def test_what_is_read_stands_at_its_place(reading: Reading, places: dict[str, int | None], code: str | None) -> None:
    found = placed(reading, places)
    assert (None if found is None else found.code) == code

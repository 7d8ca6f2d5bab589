"""Traces as text."""

from __future__ import annotations

from meshlib.telemetry.trace_tree import SpanFacts, render

MS = 1_000_000


def span(name, own, parent="", kind="CLIENT", start=0, ms=1.0, **more):
    attributes = more.pop("attributes", {})
    end = start * MS + round(ms * MS)
    return SpanFacts("t1", own, parent, name, kind, more.pop("service", "page"), start * MS, end, attributes, **more)


def test_a_trace_is_a_tree_with_its_events():
    made = [
        span("GET", "a", start=10, ms=30, attributes={"http.response.status_code": 200, "meshlib.subset": "v1"},
             events=[("meshlib.retry", {"meshlib.reason": "503"})]),
        span("GET attempt", "b", "a", start=11, attributes={"meshlib.attempt": 1, "meshlib.endpoint": "10.0.0.1:80",
             "http.response.status_code": 503, "error.type": "503"}, failed=True),
        span("GET attempt", "c", "a", start=20, ms=9, attributes={"meshlib.attempt": 2, "meshlib.endpoint": "10.0.0.2:80"}),
        span("GET /reviews", "d", "c", "SERVER", start=21, ms=7, service="reviews"),
    ]  # fmt: skip
    assert render(reversed(made)) == (
        "trace t1\n"
        "page client GET 200 subset=v1 +0.0 ms, 30.0 ms\n"
        "|    * retry reason=503\n"
        "|-- page client GET attempt 1 -> 10.0.0.1:80 503 error=503 FAILED +1.0 ms, 1.0 ms\n"
        "`-- page client GET attempt 2 -> 10.0.0.2:80 +10.0 ms, 9.0 ms\n"
        "    `-- reviews server GET /reviews +11.0 ms, 7.0 ms\n"
    )


def test_a_span_whose_parent_is_not_there_is_a_root_and_traces_stand_apart():
    made = [span("one", "a", "gone"), span("two", "b", start=5)._replace(trace_id="t2")]
    assert render(made) == "trace t1\npage client one +0.0 ms, 1.0 ms\ntrace t2\npage client two +0.0 ms, 1.0 ms\n"


def test_nothing_is_drawn_of_nothing():
    assert render([]) == ""


def test_no_value_breaks_a_line():
    assert render([span("a\nb", "a", attributes={"meshlib.route": "x\x1b[31m\r\n"})]).count("\n") == 2

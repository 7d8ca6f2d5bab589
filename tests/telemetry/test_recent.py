"""The last calls: what is kept of them, how much, and what is not."""

from __future__ import annotations

import sys

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import meshlib
from meshlib.telemetry.recent import KEPT, LONGEST_PATH, LONGEST_WORDS, MOST_ATTEMPTS, Recent
from tests.support.fake_clock import FakeClock
from tests.support.resources import pod, service, to, virtual_service

RETRIED = [
    service("reviews"),
    pod("reviews", "v1", 9081),
    pod("reviews", "v2", 9082),
    virtual_service(
        "reviews",
        {"route": [to("reviews")], "retries": {"attempts": 3, "retryOn": "5xx,connect-failure", "backoff": "2ms"}},
    ),
]


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def mesh(clock):
    with meshlib.Mesh.from_resources(RETRIED, clock=clock, seed=1) as made:
        yield made


@pytest.fixture
def recent(mesh, clock):
    made = Recent(clock.time)
    mesh._core.telemetry.remember = made.made
    return made


def client(mesh, *answers):
    left = list(answers)

    def answer(_request):
        found = left.pop(0) if left else httpx.Response(200)
        if isinstance(found, Exception):
            raise found
        return found

    return mesh.client(transport=httpx.MockTransport(answer))


def test_a_call_is_kept_with_its_attempts_and_when_each_began(mesh, recent, clock):
    with client(mesh, httpx.ConnectError("refused"), httpx.Response(503)) as calls:
        calls.get("http://reviews:9080/reviews/0")
    (call,) = recent.calls()
    assert (call["direction"], call["method"], call["authority"], call["path"]) == (
        "made",
        "GET",
        "reviews:9080",
        "/reviews/0",
    )
    assert (call["route"], call["host"]) == (
        "VirtualService/default/reviews http[0]",
        "reviews.default.svc.cluster.local",
    )
    assert (call["status"], call["flags"], call["config_version"]) == (200, "", mesh.status()["version"])
    assert [(each["failure"], each["detail"], each["status"]) for each in call["attempts"]] == [
        ("connect_failed", "refused", 0),
        ("", "", 503),
        ("", "", 200),
    ]
    begins = [each["at"] for each in call["attempts"]]
    assert begins[0] == 0.0
    assert begins == sorted(begins)
    assert begins[2] > begins[1] > 0  # the pauses between them
    assert call["ms"] >= begins[2]
    assert call["at"] == round(clock.time(), 3)
    assert call["endpoint"] == call["attempts"][2]["endpoint"]


def test_nothing_of_headers_queries_and_credentials_is_kept(mesh, recent):
    with client(mesh) as calls:
        calls.get(
            "http://user:c4n4ry@reviews:9080/a?token=c4n4ry#c4n4ry",
            headers={"authorization": "Bearer c4n4ry", "cookie": "c4n4ry"},
        )
    (call,) = recent.calls()
    assert call["path"] == "/a?..."
    assert "c4n4ry" not in str(call) + repr(recent._kept)


def test_texts_and_attempts_are_bounded(mesh, recent):
    with client(mesh) as calls:
        calls.get("http://reviews:9080/" + "x" * 5000)
        calls.request("M" * 500, "http://reviews:9080/")
    newest, oldest = recent.calls()
    assert len(oldest["path"]) == LONGEST_PATH + 3
    assert len(newest["method"]) == 100
    assert MOST_ATTEMPTS == 20


def test_why_an_attempt_failed_is_bounded_as_well(mesh, recent):
    with client(mesh, httpx.ConnectError("x" * 5000)) as calls:
        calls.get("http://reviews:9080/")
    (call,) = recent.calls()
    assert call["attempts"][0]["detail"] == "x" * LONGEST_WORDS


def test_so_many_are_kept_and_no_more(mesh, clock):
    recent = Recent(clock.time, kept=3)
    mesh._core.telemetry.remember = recent.made
    with client(mesh) as calls:
        for n in range(5):
            calls.get(f"http://reviews:9080/{n}")
    assert [(call["number"], call["path"]) for call in recent.calls()] == [(5, "/4"), (4, "/3"), (3, "/2")]


def test_memory_is_bounded(mesh, clock):
    recent = Recent(clock.time)
    mesh._core.telemetry.remember = recent.made
    with client(mesh) as calls:
        for n in range(KEPT + 50):
            calls.get(f"http://reviews:9080/{n}{'x' * 300}")
    kept = list(recent._kept)
    assert len(kept) == KEPT
    size = sum(
        sys.getsizeof(each) + sum(map(sys.getsizeof, each)) + sum(map(sys.getsizeof, each.attempts)) for each in kept
    )
    assert size < 2 * 1024 * 1024


def test_it_keeps_no_configuration_alive(mesh, recent):
    with client(mesh) as calls:
        calls.get("http://reviews:9080/")
    (kept,) = recent._kept
    assert {type(each) for each in kept} <= {int, float, str, tuple, type(None)}


def test_a_call_that_has_no_endpoint_says_why(clock):
    with meshlib.Mesh.from_resources([service("ratings")], clock=clock) as mesh:
        recent = Recent(clock.time)
        mesh._core.telemetry.remember = recent.made
        with client(mesh) as calls:
            calls.get("http://ratings:9080/")
    (call,) = recent.calls()
    assert (call["status"], call["flags"], call["route"], call["attempts"]) == (503, "UH", "default route", [])
    assert "service ratings has no endpoints" in call["detail"]


def test_every_call_that_is_served_is_kept_although_most_take_a_short_way(clock):
    app = Starlette(routes=[Route("/a", lambda _request: PlainTextResponse("a"))])
    with meshlib.Mesh.from_yaml("", clock=clock) as mesh:
        recent = Recent(clock.time)
        mesh._telemetry_of_servers().remember = recent.served
        with TestClient(meshlib.MeshASGIMiddleware(app, mesh)) as caller:
            for _ in range(5):
                caller.get("/a?token=c4n4ry")
    calls = list(recent.calls())
    assert [(call["direction"], call["path"], call["status"]) for call in calls] == [("served", "/a?...", 200)] * 5
    assert calls[0]["attempts"] == []


def test_a_request_that_was_refused_says_by_what(clock):
    policy = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody}
spec: {}
"""
    with meshlib.Mesh.from_yaml(policy, clock=clock) as mesh:
        recent = Recent(clock.time)
        mesh._telemetry_of_servers().remember = recent.served
        with TestClient(meshlib.MeshASGIMiddleware(Starlette(), mesh)) as caller:
            caller.get("/a")
    (call,) = recent.calls()
    assert call["status"] == 403
    assert call["detail"]


def test_off_it_costs_nothing_and_short_ways_are_taken():
    with meshlib.Mesh.from_yaml("") as mesh:
        assert mesh._core.telemetry.remember is None
        assert mesh._telemetry_of_servers().remember is None


def test_a_child_begins_with_none(mesh, recent):
    with client(mesh) as calls:
        calls.get("http://reviews:9080/")
    recent.after_fork()
    assert list(recent.calls()) == []
    assert recent.endpoints.of("outbound|9080||reviews.default.svc.cluster.local", "127.0.0.1:9081") is None


# -- traces

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_call_has_the_trace_of_its_span(clock):
    provider = TracerProvider()
    with meshlib.Mesh.from_resources(RETRIED, clock=clock, tracer_provider=provider) as mesh:
        recent = Recent(clock.time)
        mesh._core.telemetry.remember = recent.made
        with provider.get_tracer("test").start_as_current_span("around") as span, client(mesh) as calls:
            calls.get("http://reviews:9080/")
        (call,) = recent.calls()
    assert call["trace_id"] == f"{span.get_span_context().trace_id:032x}"


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, ""),
        ({"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}, TRACE),
        ({"x-b3-traceid": TRACE[:16]}, TRACE[:16]),
        ({"b3": f"{TRACE}-00f067aa0ba902b7-1"}, TRACE),
        ({"traceparent": "00-<script>-1-1"}, ""),
        ({"traceparent": f"00-{TRACE.upper()}-00f067aa0ba902b7-01"}, ""),
        ({"b3": "0"}, ""),
    ],
)
def test_without_a_span_it_is_that_of_the_context_that_came(mesh, recent, headers, wanted):
    with client(mesh) as calls:
        calls.get("http://reviews:9080/", headers=headers)
    (call,) = recent.calls()
    assert call["trace_id"] == wanted


def test_a_served_call_has_it_as_well(mesh, clock):
    recent = Recent(clock.time)
    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("ok"))])
    with TestClient(meshlib.MeshASGIMiddleware(app, mesh)) as calls:
        mesh._telemetry_of_servers().remember = recent.served
        calls.get("/", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
    (call,) = recent.calls()
    assert call["trace_id"] == TRACE

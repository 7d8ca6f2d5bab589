"""The short way to a line of calls that are alike says what the long way says."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.compiler.access_log.format import DEFAULT, ISTIO, parse
from meshlib.telemetry.access_log import alike
from meshlib.telemetry.access_log.alike import alike_lines
from tests.support.fake_clock import FakeClock
from tests.support.resources import destination_rule, pod, service, to, virtual_service

RESOURCES = [
    service("reviews"),
    pod("reviews", "v1", 9081),
    pod("reviews", "v2", 9082),
    destination_rule("reviews", "v1", "v2"),
    virtual_service(
        "reviews",
        {"name": "old", "match": [{"uri": {"prefix": "/old"}}], "rewrite": {"uri": "/new"}, "route": [to("reviews", "v2")]},
        {"name": "abort", "match": [{"uri": {"prefix": "/abort"}}], "route": [to("reviews", "v1")],
         "fault": {"abort": {"httpStatus": 418, "percentage": {"value": 50}}}},
        {"route": [{**to("reviews", "v1"), "weight": 50}, {**to("reviews", "v2"), "weight": 50}]},
    ),
]  # fmt: skip
FORMATS = [
    ISTIO,
    "%PATH% 100%% %START_TIME(%s)% %DURATION% %DURATION% %REQ(X-A)% %RESP(X-Envoy-Upstream-Service-Time)%",
]


def lines(path: Path, form: str, seed: int) -> list[str]:
    rng, clock = random.Random(seed), FakeClock()

    def respond(request: httpx.Request) -> httpx.Response:
        clock.advance(rng.random() / 50)
        code = 503 if request.url.path == "/fails" and rng.random() < 0.5 else rng.choice([200, 404])
        return httpx.Response(code, content=b"x" * rng.randrange(30))

    mesh = meshlib.Mesh.from_resources(
        RESOURCES, registry=CollectorRegistry(), clock=clock, seed=seed, access_log=path, access_log_format=form
    )
    transport = mesh.http_transport(httpx.MockTransport(respond))
    with mesh, httpx.Client(transport=transport, base_url="http://reviews:9080") as client:
        for _ in range(150):
            target = rng.choice(["/a", "/a?token=t&b=%25", "/old/x", "/abort", "/fails", "/a\u00e9%00"])
            headers = rng.choice([{}, {"x-a": 'q"\\'}, {"x-a": "100%s"}, {"x-request-id": str(rng.randrange(3))}])
            content = rng.choice([None, None, None, b"12345"])
            client.request(rng.choice(["GET", "POST"]), target, headers=headers, content=content)
    return path.read_text().splitlines()


@pytest.mark.parametrize("form", FORMATS)
def test_both_ways_write_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    made: list[Any] = []
    learn = alike.AlikeLines.learn

    def learned(self: alike.AlikeLines, key: Any, entry: Any) -> None:
        made.append(key)
        learn(self, key, entry)

    monkeypatch.setattr(alike, "PLAIN", False)
    monkeypatch.setattr(alike.AlikeLines, "learn", learned)
    short = lines(tmp_path / "short", form, 7)
    assert 5 < len(made) < 100, "most lines are of calls that were met before"
    monkeypatch.setattr(alike, "PLAIN", True)
    assert short == lines(tmp_path / "long", form, 7)
    assert len(short) == 150


@pytest.mark.parametrize(
    ("form", "eligible"),
    [
        (ISTIO, True),
        (DEFAULT, True),
        ("%START_TIME% %DURATION%", True),
        ("%DURATION%", False),
        ("%START_TIME% %DURATION% %RESP(X)%", False),
        ("%START_TIME% %DURATION% %REQ(:SCHEME)%", False),
        ("%START_TIME% %START_TIME(%s)%", False),
        ("%START_TIME% %DURATION% %UNIQUE_ID%", False),
        ("%START_TIME% %DURATION% %TRACE_ID%", False),
        ("%START_TIME% %DURATION% %TRAILER(X)%", False),
        ("%START_TIME% %DURATION% %UPSTREAM_LOCAL_PORT%", False),
    ],
)
def test_which_formats_have_a_short_way(monkeypatch: pytest.MonkeyPatch, form: str, eligible: bool) -> None:
    monkeypatch.setattr(alike, "PLAIN", False)
    assert (alike_lines(parse(form)) is not None) is eligible


def test_kinds_of_calls_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support.access_log import MadeUp

    monkeypatch.setattr(alike, "PLAIN", False)
    made = alike_lines(parse("%START_TIME% %DURATION% %PATH%"))
    assert made is not None
    for n in range(alike.MOST + 10):
        made.learn(n, MadeUp(f"/{n}"))
    assert len(made._known) <= alike.MOST
    assert made.line(made.known(alike.MOST + 5) or "", (0.0, 7, 0, 0, "")) == (
        f"1970-01-01T00:00:00.000Z 7 /{alike.MOST + 5}"
    )

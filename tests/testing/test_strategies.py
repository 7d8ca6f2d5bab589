"""Strategies for outages: within their bounds, and shrunk to what it takes."""

from __future__ import annotations

import subprocess
import sys

import httpx
import pytest
from hypothesis import HealthCheck, find, given, settings

import meshlib
from meshlib.testing import Chaos, FakeClock, Outage
from meshlib.testing.strategies import outages

ENDPOINTS = ["127.0.0.1:9081", "127.0.0.1:9082"]
ONCE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings}
spec:
  hosts: [ratings]
  http: [{route: [{destination: {host: ratings}}], retries: {attempts: 0}}]
"""
FEW = settings(max_examples=30, suppress_health_check=list(HealthCheck), database=None)


@FEW
@given(outages(["a", "b"], endpoints=ENDPOINTS, kinds=["down", "latency"], within=20, longest=5, most=3))
def test_outages_keep_within_what_was_asked_for(made):
    assert len(made) <= 3
    for outage in made:
        assert outage.host in ("a", "b")
        assert outage.endpoint in ENDPOINTS
        assert outage.kind in ("down", "latency")
        assert 0 <= outage.start <= 20
        assert 0 < outage.seconds <= 5


def failed_at(played: list[Outage], seconds: int = 10) -> list[int]:
    """The seconds in which a call fails."""
    clock, found = FakeClock(now=0), []
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    with (
        meshlib.Mesh.from_yaml(ONCE, clock=clock, seed=1, endpoints={"ratings": ENDPOINTS[0]}) as mesh,
        Chaos(1, clock) as chaos,
        mesh.client(transport=transport, local_replies="respond") as client,
    ):
        chaos.play(played)
        for second in range(seconds):
            clock.advance(max(0.0, second - clock.monotonic()))
            if client.get("http://ratings/").status_code != 200:
                found.append(second)
    return found


def test_what_fails_is_shrunk_to_the_outage_that_it_takes():
    """By a rule that needs no mesh: shrinking asks hundreds of times."""
    (outage,) = find(
        outages(["*", "ratings"], kinds=["down", "reset"], within=10),
        lambda played: any(each.start <= 4 < each.end for each in played),
        settings=settings(FEW, max_examples=2000),
    )
    assert (outage.host, outage.kind) == ("*", "down")
    assert outage.start + outage.seconds == pytest.approx(4.1)


def test_an_outage_that_was_made_up_happens_when_it_says():
    assert failed_at(
        [Outage("ratings", start=2, seconds=1.5), Outage("ratings", kind="reset", start=7, seconds=0.1)]
    ) == [
        2,
        3,
        7,
    ]


def test_without_hypothesis_it_is_named():
    program = "import sys; sys.modules['hypothesis'] = None\nimport meshlib.testing.strategies"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "ImportError: meshlib.testing.strategies needs hypothesis: pip install hypothesis" in ran.stderr


def test_outside_its_block_chaos_does_nothing():
    clock = FakeClock()
    chaos = Chaos(1, clock)
    chaos.on("*").down()
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    with meshlib.Mesh.from_yaml(ONCE, clock=clock, endpoints={"ratings": ENDPOINTS}) as mesh:
        client = mesh.client(transport=transport)
        with chaos, pytest.raises(httpx.ConnectError):
            client.get("http://ratings/")
        assert client.get("http://ratings/").status_code == 200


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"hosts": "ratings"}, "hosts='ratings': it is a list with at least one of them"),
        ({"hosts": []}, r"hosts=\[\]: it is a list"),
        ({"endpoints": "127.0.0.1:9081"}, "endpoints='127.0.0.1:9081': it is a list"),
        ({"endpoints": []}, r"endpoints=\[\]: it is a list"),
        ({"kinds": ["dead"]}, "kinds: 'dead' is none of down, reset, "),
        ({"within": -1}, "within=-1: it is a number of seconds"),
        ({"within": float("inf")}, "within=inf: it is a number of seconds"),
        ({"within": 0}, "an outage of 0 s at most is none"),
        ({"longest": 0.01}, "an outage of 0.01 s at most is none"),
    ],
)
def test_what_can_be_no_outage_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        outages(**wrong)

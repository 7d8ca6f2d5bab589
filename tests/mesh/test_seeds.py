"""The examples of the founding documents do what their names say. They lie beside the repository; without them, the same
behaviours are tested with resources of our own elsewhere."""

from __future__ import annotations

import json
from collections import Counter

import httpx
import pytest

import meshlib
from meshlib.resources.loader import load
from tests.support.eventually import eventually
from tests.support.fake_clock import FakeClock
from tests.support.resources import pod, service
from tests.support.schema import SHARED

SEEDS = SHARED / "corpus" / "seeds"

pytestmark = pytest.mark.skipif(not SEEDS.is_dir(), reason="the corpus is not beside this clone")


class Play:
    """A mesh of one seed file, a service with three versions, and an upstream that answers with the pod's version."""

    def __init__(
        self, host: str, *files: str, versions=("v1", "v2", "v3"), port: int = 9080, labels=None, key="version"
    ):
        pods = []
        for number, version in enumerate(versions, 1):
            made = pod(host, version, number)
            made["metadata"]["labels"] = {"app": host, key: version}
            pods.append(made)
        subsets = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": {"name": f"{host}-subsets"},
            "spec": {"host": host, "subsets": [{"name": s, "labels": {key: v}} for s, v in (labels or {}).items()]},
        }
        result = load([SEEDS / f"{name}.yaml" for name in files])
        assert result.errors == []
        objects = [r for r in result.resources if r.kind != "Service"]
        self.clock = FakeClock()
        self.versions = dict(enumerate(versions, 1))
        self.seen: list[tuple[str, str]] = []
        self.status = lambda version: 200
        base = [service(host, port=port), *pods, *([subsets] if labels else [])]
        self.mesh = meshlib.Mesh.from_resources([*base, *objects], clock=self.clock, seed=11)
        self.client = self.mesh.client(transport=httpx.MockTransport(self._answer))
        self.url = f"http://{host}:{port}"

    def _answer(self, request: httpx.Request) -> httpx.Response:
        version = self.versions[request.url.port]
        self.seen.append((version, request.headers["host"]))
        return httpx.Response(self.status(version), text=version)

    def get(self, path: str = "/", **headers: str) -> httpx.Response:
        return self.client.get(self.url + path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def spread(self, count: int) -> Counter[str]:
        return Counter(self.get().text for _ in range(count))


V123 = {v: v for v in ("v1", "v2", "v3")}
BALLS = {"ball-v1": "v1", "ball-v2": "v2"}


def test_ball_75_25():
    spread = Play("ball", "ball-75-25", labels=BALLS).spread(2000)
    assert spread["v1"] == pytest.approx(1500, abs=80)
    assert spread["v2"] == 2000 - spread["v1"]


def test_ball_by_source_label():
    for labels, version in (({"version": "basic"}, "v1"), ({"version": "pro"}, "v2")):
        play = Play("ball", "ball-by-source-label", labels=BALLS)
        play.mesh.close()
        workload = meshlib.Workload(labels=labels)
        resources = [
            json.loads(r.model_dump_json(by_alias=True, exclude_none=True)) for r in play.mesh._configuration.resources
        ]
        with meshlib.Mesh.from_resources(resources, workload=workload) as mesh:
            assert mesh.explain(url=play.url).destination.subset == f"ball-{version}"


def test_ball_mirrored():
    play = Play("ball", "ball-mirrored", labels=BALLS)
    for _ in range(10):
        assert play.get().text == "v1"
    assert eventually(lambda: len(play.seen) == 20)
    assert Counter(play.seen) == {("v1", "ball:9080"): 10, ("v2", "ball-shadow:9080"): 10}


def test_reviews_all_v1():
    assert Play("reviews", "reviews-all-v1", labels=V123).spread(50) == {"v1": 50}


def test_reviews_99_1():
    spread = Play("reviews", "reviews-99-1", labels=V123).spread(3000)
    assert spread["v2"] == pytest.approx(30, abs=20)


def test_reviews_by_user_and_agent():
    play = Play("reviews", "reviews-by-user-and-agent", labels=V123)
    chrome = "Mozilla/5.0 Chrome/100"
    assert play.get(user_agent=chrome, end_user="Fred").text == "v2"
    assert play.get(user_agent=chrome, end_user="Don Andres").text == "v2"
    assert play.get(user_agent="curl", end_user="Fred").text == "v1"
    assert play.get(user_agent=chrome, end_user="Jim").text == "v3"
    assert play.get(user_agent=chrome).text == "v1"


def test_ratings_delay_7s_jason():
    play = Play("ratings", "ratings-delay-7s-jason", labels={"v1": "v1"})
    play.client.timeout = None
    assert play.get(end_user="jason").extensions["mesh"].flags == "DI"
    assert play.clock.slept == [7.0]
    assert play.get(end_user="ann").extensions["mesh"].flags == ""
    assert play.clock.slept == [7.0]


def test_ratings_abort_500_jason():
    play = Play("ratings", "ratings-abort-500-jason", labels={"v1": "v1"})
    assert play.get(end_user="jason").status_code == 500
    assert play.get().status_code == 200


def test_userprofile_abort_503_half():
    play = Play("userprofile", "userprofile-abort-503-half", "userprofile-circuit-breaker", versions=("3.0",))
    statuses = Counter(play.get().status_code for _ in range(1000))
    assert statuses[503] == pytest.approx(500, abs=60)
    assert statuses[200] == 1000 - statuses[503]


def test_userprofile_delay_5s_fifth():
    play = Play("userprofile", "userprofile-delay-5s-fifth", "userprofile-circuit-breaker", versions=("3.0",))
    play.client.timeout = None
    for _ in range(1000):
        assert play.get().status_code == 200
    assert set(play.clock.slept) == {5.0}
    assert len(play.clock.slept) == pytest.approx(200, abs=50)


def test_httpbin_circuit_breaker_ejects_at_the_first_gateway_error():
    play = Play("httpbin", "httpbin-circuit-breaker", versions=("a", "b"))
    play.status = lambda version: 503 if version == "a" else 200
    statuses = [play.get().status_code for _ in range(40)]
    assert statuses.count(503) == 1
    limits = play.mesh.status()["clusters"][0]["limits"]
    assert limits == "1 connections, 1 pending, 1 requests per connection"


def test_layer2_retries():
    play = Play("layer2", "layer2-retries", port=8080, labels={"v1": "v1"})
    explanation = play.mesh.explain(url=f"{play.url}/call-layers").to_dict()
    assert explanation["retry"].startswith("5 retries on connect-failure")
    assert explanation["retry"].endswith("10 s per try")
    assert play.get("/else").status_code == 404


def test_layer2_weights():
    spread = Play("layer2", "layer2-weights", port=8080).spread(2000)
    assert spread["v1"] == pytest.approx(1600, abs=80)


def test_layer2_a_match_weights_timeout():
    versions = ("instance1", "instance2")
    play = Play("layer2-a", "layer2-a-match-weights-timeout", port=8080, versions=versions, key="instance")
    found = play.mesh.explain(url=f"{play.url}/call-layers/x").to_dict()
    assert (found["timeout"], [d["share"] for d in found["destinations"]]) == (1.5, [80.0, 20.0])
    assert play.get("/get-info").status_code == 200
    assert play.get("/get-info/x").status_code == 404


def test_productpage_prefix():
    play = Play("productpage", "productpage-prefix")
    assert play.get("/api/v1/products").status_code == 200
    assert play.get("/other").status_code == 404

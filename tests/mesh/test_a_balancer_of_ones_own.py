"""A balancer is added as CONTRIBUTING says, a class with ``pick`` and a line in ``BALANCERS``, and works from the YAML to the
endpoint; a name that nobody has added is refused wherever it turns up."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

import meshlib
from meshlib.engine.outcome import Failure, Outcome
from meshlib.errors import ConfigError
from meshlib.policy import balancer as balancers
from tests.support.resources import destination_rule, pod, service
from tests.support.scripted import Bench

WRITTEN = '''
"""Always the endpoint with the highest address."""

from meshlib.policy.balancer import BALANCERS


class Highest:
    def pick(self, usable, rng, even):
        return max(usable, key=lambda endpoint: endpoint.key)


BALANCERS["HIGHEST"] = Highest
'''
PODS = [pod("reviews", f"v{n}", 9080, f"10.0.0.{n}") for n in (1, 2, 3)]
KEY = "outbound|9080||reviews.default.svc.cluster.local"
RESOURCES = [service("reviews"), *PODS, destination_rule("reviews", loadBalancer={"simple": "HIGHEST"})]


@pytest.fixture
def highest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The temporary module, imported; what it added is taken back."""
    path = tmp_path / "highest_balancer.py"
    path.write_text(WRITTEN)
    spec = importlib.util.spec_from_file_location("highest_balancer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "highest_balancer", module)
    before = dict(balancers.BALANCERS)
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        balancers.BALANCERS.clear()
        balancers.BALANCERS.update(before)


def answered_by(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, text=request.url.host)


def with_threads(mesh: meshlib.Mesh, count: int) -> list[str]:
    with httpx.Client(transport=mesh.http_transport(inner=httpx.MockTransport(answered_by))) as client:
        return [client.get("http://reviews:9080/").text for _ in range(count)]


def with_a_loop(mesh: meshlib.Mesh, count: int) -> list[str]:
    async def calls() -> list[str]:
        inner = httpx.MockTransport(answered_by)
        async with httpx.AsyncClient(transport=mesh.async_http_transport(inner=inner)) as client:
            return [(await client.get("http://reviews:9080/")).text for _ in range(count)]

    return asyncio.run(calls())


@pytest.mark.parametrize("calls", [with_threads, with_a_loop])
def test_a_balancer_that_is_added_picks_the_endpoints_of_calls(highest, calls: Callable[..., list[str]]) -> None:
    with meshlib.Mesh.from_resources(RESOURCES) as mesh:
        assert calls(mesh, 5) == ["10.0.0.3"] * 5
        explained = mesh.explain(method="GET", url="http://reviews:9080/")
        assert [t["balancer"] for t in explained.to_dict()["destinations"]] == ["HIGHEST"]
        assert [c["balancer"] for c in mesh.status()["clusters"] if c["name"] == KEY] == ["HIGHEST"]


def test_it_picks_for_retries_and_among_what_health_leaves(highest) -> None:
    made = Bench(*RESOURCES)
    script = made.script(Outcome(failure=Failure.CONNECT_FAILED), 200)
    made.call(script)
    assert script.tried == ["10.0.0.3:9080"] * 2  # asked again, it says the same: Envoy's last pick counts
    made.state(KEY).endpoints["10.0.0.3:9080"].healthy = False
    made.state(KEY).generation += 1
    script = made.script(200)
    made.call(script)
    assert script.tried == ["10.0.0.2:9080"]


@pytest.mark.parametrize("name", ["HIGHEST", "PEAK_EWMA", "RING_HASH", "round_robin", "", 7])
def test_a_name_that_was_not_added_is_refused_when_the_resource_is_read(name: Any) -> None:
    with pytest.raises(ConfigError, match="simple"):
        meshlib.Mesh.from_resources(
            [service("reviews"), destination_rule("reviews", loadBalancer={"simple": name})]
        ).close()


def test_a_compiled_name_that_is_nobodys_is_an_error_and_not_another_balancer(highest) -> None:
    made = Bench(*RESOURCES)
    del balancers.BALANCERS["HIGHEST"]
    with pytest.raises(LookupError, match="no balancer is called 'HIGHEST'"):
        made.call(made.script(200))


def test_that_error_names_those_there_are() -> None:
    with pytest.raises(LookupError, match="no balancer is called 'FASTEST'; there are .*LEAST_REQUEST.*ROUND_ROBIN"):
        balancers.new_balancer("FASTEST")

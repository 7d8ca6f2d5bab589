"""ResiliencePolicies that ask for what is not installed: a problem of the mesh, with the remedy."""

from __future__ import annotations

import json
import logging
import sys

import pytest
from click.testing import CliRunner

import meshlib
from meshlib.cli.main import main
from meshlib.policy.breaker import BreakerSettings
from meshlib.problems import Severity
from tests.support.resources import pod, service

URL = "redis://:canary-8d1f@redis:6379"
LIMIT = {"requests": 5, "per": "1s", "storage": {"redis": {"url": URL}}}
QUOTA = {**LIMIT, "per": "24h"}


def policy(**spec: object) -> dict[str, object]:
    return {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": "p", "namespace": "default"},
        "spec": spec,
    }


OUTBOUND = policy(
    targetRefs=[{"kind": "Service", "name": "reviews"}], circuitBreaker={"storage": {"redis": {"url": URL}}}
)
INBOUND = policy(selector={"matchLabels": {"app": "reviews"}}, inbound={"rateLimits": [LIMIT], "quotas": [QUOTA]})
BASE = [service("reviews"), pod("reviews", "v1", 1)]


@pytest.fixture
def without(monkeypatch):
    def hide(*libraries: str) -> None:
        for name in libraries:
            monkeypatch.setitem(sys.modules, name, None)

    return hide


def test_a_breaker_in_redis_without_the_library_is_a_problem_with_its_remedy(without, caplog):
    without("redis")
    with meshlib.Mesh.from_resources([*BASE, OUTBOUND]) as mesh:
        (found,) = [p for p in mesh.problems if p.code == "missing-extra"]
        assert found.severity is Severity.WARNING
        assert found.path == "ResiliencePolicy/default/p spec.circuitBreaker.storage.redis"
        assert found.message == (
            "Redis cannot be used without the library redis: each process opens its breaker for itself"
        )
        assert found.hint == "pip install 'sidecarless[redis]'"
        assert "missing-extra" in [p["code"] for p in mesh.status()["problems"]]
    told = [r.getMessage() for r in caplog.records if r.name == "meshlib.config" and r.levelno == logging.WARNING]
    assert len(told) == 1
    assert "canary" not in caplog.text


def test_each_limit_in_redis_without_the_libraries_is_a_problem(without):
    without("redis", "limits")
    with meshlib.Mesh.from_resources([*BASE, INBOUND]) as mesh:
        found = [(p.path, p.message) for p in mesh.problems if p.code == "missing-extra"]
        said = "Redis cannot be used without the libraries redis and limits: the limit lets every request through"
        assert found == [
            (f"ResiliencePolicy/default/p spec.inbound.{name}[0].storage.redis", said)
            for name in ("rateLimits", "quotas")
        ]


def test_validate_says_so_too(without, tmp_path):
    without("redis")
    (tmp_path / "mesh.json").write_text("\n---\n".join(map(json.dumps, [*BASE, OUTBOUND])))
    result = CliRunner().invoke(main, ["validate", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "[missing-extra]" in result.output
    assert "hint: pip install 'sidecarless[redis]'" in result.output


def test_with_the_libraries_there_is_nothing_to_be_said():
    pytest.importorskip("redis")
    pytest.importorskip("limits")
    with meshlib.Mesh.from_resources([*BASE, OUTBOUND]) as mesh:
        assert not [p for p in mesh.problems if p.code == "missing-extra"]


def test_a_problem_that_a_reload_mends_goes_away(without):
    without("redis")
    with meshlib.Mesh.from_resources([*BASE, OUTBOUND]) as mesh:
        mesh.apply(BASE)
        assert not [p for p in mesh.problems if p.code == "missing-extra"]
        mesh.apply([*BASE, OUTBOUND])
        assert [p for p in mesh.problems if p.code == "missing-extra"]


def test_settings_do_not_show_the_url():
    assert "canary" not in repr(BreakerSettings(5, 30.0, URL))

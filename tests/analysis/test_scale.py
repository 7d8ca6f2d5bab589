"""Analysis looks things up: twice the resources are twice the work."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from meshlib.analysis import analyze, nearest
from meshlib.resources.loader import load_objects
from tests.support.resources import destination_rule, pod, service, to, virtual_service


def mesh(size: int) -> list[Any]:
    """``size`` services, each with what goes with it, and a slip in every fourth."""
    found: list[dict[str, Any]] = []
    for number in range(size):
        name, slip = f"service-{number}", number % 4 == 0
        rules = (
            {"match": [{"uri": {"prefix": "/a"}}], "route": [to(f"{name}x" if slip else name, "v1")]},
            {"route": [to(name, "v9" if slip else "v1")]},
        )
        server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
        found += [
            service(name),
            pod(name, "v1", 8080),
            destination_rule(name, "v1", "v2"),
            virtual_service(name, *rules),
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "Gateway",
                "metadata": {"name": name},
                "spec": {"selector": {"app": name}, "servers": [server]},
            },
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "Sidecar",
                "metadata": {"name": name},
                "spec": {"workloadSelector": {"labels": {"app": name}}, "egress": [{"hosts": ["./*"]}]},
            },
        ]
    return list(load_objects(found).resources)


def work(resources: list[Any]) -> int:
    """Calls of Python functions that analysis takes."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        found = analyze(resources)
    finally:
        sys.setprofile(None)
    assert found
    return calls


def test_twice_the_resources_are_twice_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "FEW", 10)  # as if there were many names
    few, many = mesh(80), mesh(160)
    analyze(few)  # what is made once
    assert work(many) < 2.4 * work(few)

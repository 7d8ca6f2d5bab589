"""Ports of headless services that are not HTTP: a sidecar listens for each pod, and so for nothing where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.compile import Compiler
from meshlib.compiler.snapshot import Snapshot
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.resources import pod, service

POD = pod("db", "v1", 5000, "10.0.0.1", "db-0")


def headless(name: str) -> dict[str, Any]:
    return service("db", clusterIP="None", ports=[{"name": name, "port": 5000, "targetPort": 5000}])


def is_known(snapshot: Snapshot) -> bool:
    return not snapshot.is_unknown(snapshot.virtual_host("db:5000", "http"))


@pytest.mark.parametrize(("name", "without_pods"), [("http", True), ("tcp", False), ("other", False)])
def test_a_port_that_is_not_http_is_known_while_the_service_has_pods(name, without_pods):
    compiler = Compiler(Workload())
    empty, one = load_objects([headless(name)]).resources, load_objects([POD]).resources
    assert [is_known(compiler.compile(r)) for r in (empty, [*empty, *one], empty)] == [without_pods, True, without_pods]

"""``meshlib proxy --engine envoy`` for tests, and what it compiles resources to."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from meshlib.compiler.compile import compile_snapshot
from meshlib.compiler.snapshot import Snapshot
from meshlib.envoy.binary import find_envoy
from meshlib.envoy.configuration import Configuration, configuration
from meshlib.envoy.messages import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, packed
from meshlib.problems import MeshError
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.proxy_command import ProxyCommand, free_port

Json = dict[str, Any]


def require_envoy() -> None:
    """Skip, and say so, without one."""
    try:
        find_envoy()
    except MeshError as error:
        pytest.skip(f"no Envoy: {error}")


def snapshot_of(*resources: Json, workload: Workload | None = None) -> Snapshot:
    loaded = load_objects(list(resources))
    assert not loaded.errors, loaded.errors
    return compile_snapshot(loaded.resources, workload or Workload(), https_rules="istio")


def compiled(
    *resources: Json,
    workload: Workload | None = None,
    credentials: Any = None,
    transparent: bool = False,
    at: tuple[str, int] = ("127.0.0.1", 15001),
) -> Configuration:
    """What Envoy is told of them, each a message that Envoy has. ``at``: the outbound port."""
    snapshot = snapshot_of(*resources, workload=workload)
    made = configuration(snapshot, [at], credentials, transparent=transparent)
    for kind, there in (
        (CLUSTER, made.clusters),
        (ENDPOINTS, made.endpoints),
        (LISTENER, made.listeners),
        (ROUTES, made.routes),
        (SECRET, made.secrets),
    ):
        for values in there.values():
            packed(kind, values)
    return made


def host_of(made: Configuration, domain: str) -> Json:
    """The virtual host of a value of Host."""
    return next(host for host in made.routes["outbound"]["virtual_hosts"] if domain in host["domains"])


def routes_to(made: Configuration, domain: str) -> list[Json]:
    """The routes of a value of Host."""
    found: list[Json] = host_of(made, domain)["routes"]
    return found


class EnvoyCommand(ProxyCommand):
    """With an admin endpoint."""

    def __init__(self, folder: Path, backend: int, *arguments: str, **more: Any) -> None:
        require_envoy()
        self.admin = free_port()
        super().__init__(folder, backend, "--engine", "envoy", "--admin", f"127.0.0.1:{self.admin}", *arguments, **more)

    def envoy(self, times: int = 1) -> int:
        """The process of the so-manieth Envoy."""
        line = self.says("forwarding, listening on") if times == 1 else self.says("Envoy is back", times - 1)
        found = re.search(r"as process (\d+)", line)
        assert found is not None
        return int(found[1])

    def kill_envoy(self, times: int = 1) -> None:
        os.kill(self.envoy(times), signal.SIGKILL)

"""The same resources through ``--engine meshlib`` and ``--engine envoy``: what each makes of the same requests.

Meshes and requests are those of ``tests/differential/sidecar/generate.py``, whose ServiceEntries lead to echo servers here.
That suite stays the referee of meshlib's own engine, with a reading of Istio of its own (``pilot.py``), which shares nothing
with ``meshlib/envoy``; here both sides begin with meshlib's compiler, and what is judged is what became of its snapshot.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

from tests.differential.referee.answers import Answer, request_headers, response_headers
from tests.differential.referee.envoy_side import encode
from tests.differential.referee.generate import SUBSETS, Request
from tests.differential.sidecar.generate import Mesh
from tests.support.envoy_engine import EnvoyCommand
from tests.support.proxy_command import ProxyCommand
from tests.support.servers import EchoServer

DRAWS = 40
"""How often a request is repeated whose responses may differ by chance: weights, and endpoints of a service."""
REGISTRY_ONLY = {
    "apiVersion": "meshlib.dev/v1",
    "kind": "MeshConfig",
    "metadata": {"name": "mesh", "namespace": "istio-system"},
    "spec": {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}},
}
"""Names that nobody knows are not asked of DNS."""


@dataclass(frozen=True)
class Difference:
    """A request that the two engines do not treat alike."""

    mesh: Mesh
    request: Request
    ours: Answer
    envoys: Answer

    def __str__(self) -> str:
        about = "\n".join(json.dumps(each) for each in self.mesh.about(self.request))
        return "\n".join([f"mesh {self.mesh.seed}, {self.request}", *self.ours.differences(self.envoys), about])


def resources_of(mesh: Mesh, ports: dict[str, int]) -> list[dict[str, Any]]:
    """Those of a mesh, with endpoints at these ports by version."""
    made = [REGISTRY_ONLY]
    for resource in mesh.resources:
        if resource["kind"] == "ServiceEntry":
            spec = resource["spec"]
            names = [port["name"] for port in spec["ports"]]
            endpoints = [
                {**each, "ports": dict.fromkeys(names, ports[each["labels"]["version"]])} for each in spec["endpoints"]
            ]
            resource = {**resource, "spec": {**spec, "endpoints": endpoints}}
        made.append(resource)
    return made


class Side:
    """One engine: asked over one kept connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def ask(self, request: Request) -> Answer:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), 60)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(encode(request))
        response = HTTPResponse(self._socket, method=request.method)
        response.begin()
        body = response.read()
        if response.will_close:
            self.close()
        return _answer(response.status, response.getheaders(), body)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _answer(status: int, headers: list[tuple[str, str]], body: bytes) -> Answer:
    back = response_headers(headers)
    try:
        echo = json.loads(body)
        pairs = list(echo["headers"].items())
    except (ValueError, TypeError, KeyError):
        return Answer("", status, body=body.decode("utf-8", "replace"), response_headers=back)
    authority = echo["headers"]["host"]
    return Answer(
        "", status, echo["server"], echo["method"], echo["path"], authority, request_headers(sorted(pairs)), "", back
    )


@contextlib.contextmanager
def both(folder: Path, mesh: Mesh) -> Iterator[tuple[Side, Side]]:
    """The two engines at work for a mesh."""
    client = mesh.client
    labels = ",".join(f"{name}={value}" for name, value in client.labels.items())
    who = ["--namespace", client.namespace, *(["--labels", labels] if labels else [])]
    with contextlib.ExitStack() as stack:
        servers = {version: stack.enter_context(EchoServer(version)) for version in SUBSETS}
        written = resources_of(mesh, {version: server.port for version, server in servers.items()})
        (folder / "mesh").mkdir()
        (folder / "mesh" / "generated.yaml").write_text("\n---\n".join(map(json.dumps, written)))
        ours = stack.enter_context(ProxyCommand(folder, 1, *who))
        envoys = stack.enter_context(EnvoyCommand(folder, 1, *who))
        sides = Side(ours.port), Side(envoys.port)
        for side in sides:
            stack.callback(side.close)
        yield sides


def differences(folder: Path, mesh: Mesh) -> Iterator[Difference]:
    """The requests of a mesh that are not treated alike."""
    with both(folder, mesh) as (ours, envoys):
        for _, request in mesh.requests:
            one, other = ours.ask(request), envoys.ask(request)
            if one != other and not _by_chance(request, ours, envoys):
                yield Difference(mesh, request, one, other)


def _by_chance(request: Request, ours: Side, envoys: Side) -> bool:
    """Whether what one of them makes of it the other makes of it, too, now and then."""
    for draws in (DRAWS, 10 * DRAWS):
        seen = [ours.ask(request) for _ in range(draws)]
        theirs = [envoys.ask(request) for _ in range(draws)]
        if _among(seen, theirs) and _among(theirs, seen):
            return True
    return False


def _among(some: Sequence[Answer], others: Sequence[Answer]) -> bool:
    """Whether all but rare ones are among the others."""
    odd = set(some) - set(others)
    return len(odd) < len(set(some)) and all(some.count(each) <= len(some) // 20 for each in odd)

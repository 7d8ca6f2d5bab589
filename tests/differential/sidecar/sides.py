"""A whole mesh through Envoy, configured as istiod would configure a sidecar, and through meshlib; and the verdict."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

from benchmarks.free_ports import free_port
from meshlib.workload import Workload
from tests.differential.envoy_process import running
from tests.differential.referee.answers import Answer
from tests.differential.referee.envoy_side import EnvoySide, bootstrap
from tests.differential.referee.generate import Request
from tests.differential.referee.our_side import MeshSide
from tests.differential.referee.verdict import DRAWS, kind, same
from tests.differential.sidecar.generate import Mesh
from tests.differential.sidecar.pilot import Pilot

PORTS = (80, 8080)


def ask_envoy(mesh: Mesh) -> list[Answer]:
    """Envoy's answers to the requests of a mesh, in order."""
    pilot = Pilot(mesh.resources, mesh.client)
    listen = {port: free_port() for port in PORTS}
    echo, admin = free_port(), free_port()
    fronts = {listen[port]: pilot.route_configuration(port) for port in PORTS}
    answers: list[Answer | None] = [None] * len(mesh.requests)
    with running(bootstrap(fronts, pilot.clusters(), echo, admin), admin):
        for port in PORTS:
            mine = [n for n, (dialled, _) in enumerate(mesh.requests) if dialled == port]
            heard = EnvoySide(listen[port]).ask([mesh.requests[n][1] for n in mine])
            for n, answer in zip(mine, heard, strict=True):
                answers[n] = answer
    return [a for a in answers if a is not None]


def mesh_side(mesh: Mesh, seed: int = 0) -> MeshSide:
    """meshlib with the same resources, as the same client."""
    client = mesh.client
    return MeshSide(mesh.resources, Workload("client", client.namespace, dict(client.labels)), seed)


@dataclass
class Difference:
    """Two answers to one request that should be the same."""

    mesh: Mesh
    request: Request
    ours: Answer
    theirs: Answer

    def __str__(self) -> str:
        client = self.mesh.client
        return "\n".join(
            [
                f"mesh {self.mesh.seed}, client in {client.namespace} with {dict(client.labels)}, ours | Envoy's:",
                *(f"  {line}" for line in self.ours.differences(self.theirs)),
                f"  request: {self.request.method} {self.request.target} to {self.request.authority}",
                *(f"    {name}: {value}" for name, value in self.request.headers),
                *(f"  {json.dumps(r)}" for r in self.mesh.about(self.request)),
            ]
        )


@dataclass
class Tally:
    """What a run has found; ``kinds`` counts what the decisions were about."""

    equal: int = 0
    different: list[Difference] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)


def judge(mesh: Mesh, ours: MeshSide, theirs: list[Answer], draws: int = DRAWS) -> Tally:
    """Compare every answer. Where a route has several destinations, our side may draw until it draws Envoy's."""
    tally = Tally()
    for (_, request), their in zip(mesh.requests, theirs, strict=True):
        our = ours.ask(request)
        left = draws if mesh.draws(request) else 0
        while left and not same(our, their):
            our = ours.ask(request)
            left -= 1
        tally.kinds["default route" if their.route == "default" else kind(their)] += 1
        if "-leaf" in their.route:
            tally.kinds["delegated"] += 1
        if same(our, their):
            tally.equal += 1
        else:
            tally.different.append(Difference(mesh, request, our, their))
    return tally

"""Whole meshes, as one client sees them, through meshlib and through a real Envoy configured as istiod would configure the
client's sidecar: registry hosts on several ports, default routes, wildcards, several VirtualServices that claim a host,
delegates, exportTo, sourceLabels and namespaces. Every decision is the same."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler import claims, delegates
from meshlib.compiler.delegates import Delegates
from tests.differential.envoy_process import require_envoy
from tests.differential.referee.answers import Answer
from tests.differential.sidecar.generate import Mesh, mesh
from tests.differential.sidecar.sides import ask_envoy, judge, mesh_side

pytestmark = pytest.mark.differential

MESHES, HOSTS, REQUESTS = 3, 40, 50


@pytest.fixture(scope="module")
def heard() -> list[tuple[Mesh, list[Answer]]]:
    """The meshes and Envoy's answers."""
    require_envoy()
    made = [mesh(20261121 + n, n, HOSTS, REQUESTS) for n in range(MESHES)]
    return [(one, ask_envoy(one)) for one in made]


def test_every_decision_in_whole_meshes_is_envoys(heard):
    kinds: dict[str, int] = {}
    for one, theirs in heard:
        tally = judge(one, mesh_side(one), theirs)
        assert not tally.different, "\n".join(map(str, tally.different[:3]))
        assert tally.equal == len(one.requests) > 1000
        for kind, count in tally.kinds.items():
            kinds[kind] = kinds.get(kind, 0) + count
    for kind in ("default route", "delegated", "forwarded", "rewritten", "redirect", "local 404"):
        assert kinds[kind] > 50, kinds


def different(heard: list[tuple[Mesh, list[Answer]]]) -> bool:
    return any(judge(one, mesh_side(one), theirs, draws=50).different for one, theirs in heard)


def test_the_youngest_claim_in_place_of_the_oldest_is_noticed(heard, monkeypatch):
    real = claims.sort_claims
    monkeypatch.setattr(claims, "sort_claims", lambda services, rank: real(services, rank)[::-1])
    assert different(heard)


def test_a_delegate_that_is_not_narrowed_is_noticed(heard, monkeypatch):
    monkeypatch.setattr(delegates, "_merge_matches", lambda roots, leaves: [*(leaves or roots)])
    assert different(heard)


def test_delegates_that_are_forgotten_are_noticed(heard, monkeypatch):
    real = Delegates.routes

    def without(self: Delegates, root: Any) -> Any:
        return [route for route in real(self, root) if not route.delegate]

    monkeypatch.setattr(Delegates, "routes", without)
    assert different(heard)


def test_a_virtual_service_that_is_not_exported_and_counts_all_the_same_is_noticed(heard, monkeypatch):
    monkeypatch.setattr(claims, "exported_to", lambda export_to, namespace, client: True)
    assert different(heard)

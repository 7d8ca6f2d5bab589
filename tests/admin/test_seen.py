"""What pages see of a mesh is what a mesh has."""

from __future__ import annotations

import prometheus_client

import meshlib
from meshlib.admin.seen import Seen
from meshlib.mesh.admin import _Seen
from tests.support.admin import seen
from tests.support.fake_clock import FakeClock
from tests.support.resources import service


def test_a_mesh_is_seen_as_it_is():
    with meshlib.Mesh.from_resources([service("reviews")], clock=FakeClock()) as mesh:
        found: Seen = seen(mesh)
        assert found.core is mesh._core
        assert [resource.id for resource in found.resources] == ["Service/default/reviews"]
        assert (found.workload, found.began) == (mesh.workload, 0.0)
        assert found.registry is prometheus_client.REGISTRY
        assert found.status() == mesh.status()
        assert list(found.recent.calls()) == []


def test_all_that_the_pages_ask_for_is_there():
    assert {name for name in dir(Seen) if not name.startswith("_")} | set(Seen.__annotations__) <= {
        *dir(_Seen),
        "workload",
        "began",
        "recent",
    }

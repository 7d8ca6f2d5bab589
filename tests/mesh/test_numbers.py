"""What a mesh tells its metrics, from all the places that know something."""

from __future__ import annotations

import gc
import weakref

import meshlib
from meshlib.mesh.numbers import ObservedMesh
from meshlib.telemetry.mesh_numbers import MeshNumbers
from tests.support.identities import SERVER, World
from tests.support.resources import service, virtual_service


def test_the_certificate_and_the_roots_show_when_they_expire():
    world = World(of_a_mesh=True)
    svid = world.rotate(ttl=3600.0)
    with meshlib.Mesh.from_resources([], identity=world.identity) as mesh:
        told = mesh._metrics.shown.numbers().certificate
        assert told is not None
        assert (told.identity, told.not_after, told.rotations, told.ready) == (SERVER, svid.not_after, 0, True)
        assert told.trust == {"cluster.local": world.bundles().until("cluster.local")}
        later = world.rotate(ttl=7200.0)
        told = mesh._metrics.shown.numbers().certificate
        assert told is not None
        assert (told.not_after, told.rotations) == (later.not_after, 1)


def test_an_identity_without_a_certificate_yet_is_not_ready():
    with meshlib.Mesh.from_resources([], identity=World(of_a_mesh=True).identity) as mesh:
        told = mesh._metrics.shown.numbers().certificate
        assert told is not None
        assert (told.identity, told.ready, told.trust) == ("", False, {})


def test_a_mesh_without_an_identity_has_no_certificate():
    with meshlib.Mesh.from_resources([]) as mesh:
        assert mesh._metrics.shown.numbers().certificate is None


def test_problems_are_counted_by_severity():
    rule = virtual_service("reviews", {"route": [{"destination": {"host": "nowhere"}}]})
    with meshlib.Mesh.from_resources([service("reviews"), rule]) as mesh:
        config = mesh._metrics.shown.numbers().config
        assert config is not None
        assert config.problems == {"error": 0, "warning": 1, "notice": 1}
        assert len(mesh.problems) == 2


def test_telemetry_that_failed_is_counted_of_both_directions():
    with meshlib.Mesh.from_resources([]) as mesh:
        assert mesh._metrics.shown.numbers().failures == 0
        mesh._core.telemetry.failures = 2
        mesh._telemetry_of_servers().failures = 3
        assert mesh._metrics.shown.numbers().failures == 5


def test_what_shows_a_mesh_does_not_keep_it_alive():
    mesh = meshlib.Mesh.from_resources([])
    shown, gone = mesh._metrics.shown, weakref.ref(mesh)
    assert isinstance(shown, ObservedMesh)
    del mesh
    gc.collect()
    assert gone() is None
    assert shown.numbers() == MeshNumbers()

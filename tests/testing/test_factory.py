"""The fixture ``mesh``: meshes out of YAML that stands in the test."""

from __future__ import annotations

import textwrap

import pytest
import yaml

import meshlib
from meshlib.testing import MeshFactory

DELAYED = """
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {name: reviews}
    spec:
      hosts: [reviews]
      http:
      - fault: {delay: {percentage: {value: 100}, fixedDelay: 30s}, abort: {percentage: {value: 50}, httpStatus: 418}}
        route: [{destination: {host: reviews}}]
"""


NOWHERE = {"reviews": "127.0.0.1:1"}


def statuses(mesh: meshlib.Mesh) -> list[int]:
    with mesh.client(timeout=None, local_replies="respond") as client:
        return [client.get("http://reviews/").status_code for _ in range(20)]


def test_delays_go_by_the_fake_clock(mesh, fake_clock):
    statuses(mesh(DELAYED, endpoints=NOWHERE))
    assert fake_clock.sleeps.count(30) == 20


async def test_on_an_event_loop_too(mesh, fake_clock):
    async with mesh(DELAYED, endpoints=NOWHERE).async_client(timeout=None, local_replies="respond") as client:
        await client.get("http://reviews/")
    assert fake_clock.sleeps.count(30) == 1


def test_the_seed_decides_what_is_random(mesh, mesh_seed):
    assert statuses(mesh(DELAYED, endpoints=NOWHERE)) == statuses(mesh(DELAYED, seed=mesh_seed, endpoints=NOWHERE))
    assert len({tuple(statuses(mesh(DELAYED, seed=seed, endpoints=NOWHERE))) for seed in range(5)}) > 1


@pytest.mark.mesh(DELAYED, workload=meshlib.Workload("shop"), endpoints=NOWHERE)
def test_a_marked_test_gets_the_mesh_itself(mesh):
    assert isinstance(mesh, meshlib.Mesh)
    assert mesh.workload.name == "shop"
    assert mesh.explain(url="http://reviews/").resource == "VirtualService/default/reviews"


def test_resources_may_be_dicts_or_files(mesh, tmp_path):
    (tmp_path / "reviews.yaml").write_text(textwrap.dedent(DELAYED))
    dicts = list(yaml.safe_load_all(DELAYED))
    for source in (tmp_path, tmp_path / "reviews.yaml", dicts):
        assert mesh(source, endpoints=NOWHERE).explain(url="http://reviews/").rule == 0


def test_what_is_wrong_is_told_with_its_line(mesh):
    with pytest.raises(meshlib.errors.ConfigError, match=r"<yaml>:9:\d+.*rout"):
        mesh(DELAYED.replace("route:", "routes:"))


def test_meshes_are_closed_at_the_end(fake_clock):
    factory = MeshFactory(fake_clock, 1)
    made = factory()
    client = made.client()
    factory.close()
    with pytest.raises(meshlib.errors.MeshClosed):
        client.get("http://reviews/")


def test_who_takes_the_fixture_for_a_mesh_is_told_so(mesh):
    with pytest.raises(
        AttributeError, match=r"^the fixture mesh makes meshes: mesh\(yaml\).client, or mark the test @pytest"
    ):
        mesh.client()
    assert not hasattr(mesh, "nothing_of_a_mesh")

"""Where attempts connect: one target for all calls that may share connections, and never one that they may not."""

from __future__ import annotations

import pytest

import meshlib
from meshlib.engine.plain_request import PlainRequest
from meshlib.transport.runtimes import targets
from meshlib.transport.runtimes.targets import find_target
from meshlib.transport.upstream.client_settings import ClientSettings
from tests.support.resources import destination_rule, pod, service

HTTP = PlainRequest("GET", "http", "reviews:9080", "/", {})
HTTPS = PlainRequest("GET", "https", "reviews:9080", "/", {}, "reviews:9080")


@pytest.fixture
def mesh_of():
    made = []

    def make(*rules):
        mesh = meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", 1), *rules])
        made.append(mesh)
        core = mesh._core
        (key,) = [key for key in core.live.snapshot.clusters if "reviews" in key]
        return core, core.live.cluster(key)

    yield make
    for mesh in made:
        mesh.close()


def test_plaintext_to_an_endpoint_is_the_same_for_every_client(mesh_of):
    core, cluster = mesh_of()
    (endpoint,) = cluster.endpoints
    found = find_target(core, cluster, endpoint, HTTP, ClientSettings())
    assert find_target(core, cluster, endpoint, HTTP, ClientSettings()) is found
    assert (found.tls, found.scheme, str(found)) == (None, b"http", endpoint.key)


def test_tls_of_a_url_is_its_clients_own(mesh_of):
    core, cluster = mesh_of()
    (endpoint,) = cluster.endpoints
    one, other = ClientSettings(), ClientSettings(verify=False)
    found = find_target(core, cluster, endpoint, HTTPS, one)
    assert find_target(core, cluster, endpoint, HTTPS, one) is found
    assert find_target(core, cluster, endpoint, HTTPS, other) is not found
    assert (found.scheme, found.server_hostname) == (b"https", "reviews")


def test_who_must_not_go_everywhere_has_connections_of_its_own(mesh_of):
    core, cluster = mesh_of()
    (endpoint,) = cluster.endpoints
    guarded = ClientSettings(guarded=True)
    free = find_target(core, cluster, endpoint, HTTP, ClientSettings())
    found = find_target(core, cluster, endpoint, HTTP, guarded)
    assert (free.guarded, found.guarded) == (False, True)
    assert find_target(core, cluster, endpoint, HTTP, ClientSettings(guarded=True)) is found
    assert find_target(core, cluster, endpoint, HTTPS, guarded).guarded


def test_tls_of_a_rule_is_everybodys(mesh_of):
    core, cluster = mesh_of(destination_rule("reviews", tls={"mode": "SIMPLE", "sni": "other.test"}))
    (endpoint,) = cluster.endpoints
    found = find_target(core, cluster, endpoint, HTTP, ClientSettings())
    assert find_target(core, cluster, endpoint, HTTPS, ClientSettings(verify=False)) is found
    assert found.server_hostname == "other.test"


def test_their_number_is_bounded_and_the_oldest_is_retired(mesh_of, monkeypatch):
    monkeypatch.setattr(targets, "MAX_TARGETS", 3)
    core, cluster = mesh_of()
    (endpoint,) = cluster.endpoints
    made = [find_target(core, cluster, endpoint, HTTPS, ClientSettings()) for _ in range(5)]
    assert len(cluster.targets) == 3
    assert [target.retired for target in made] == [True, True, False, False, False]

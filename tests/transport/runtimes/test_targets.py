"""Where attempts connect: one target for all calls that may share connections, and never one that they may not."""

from __future__ import annotations

from dataclasses import replace

import pytest

import meshlib
from meshlib.compiler.routes import TlsSettings
from meshlib.engine.cluster import BoundCluster
from meshlib.engine.cluster_state import ClusterState
from meshlib.engine.plain_request import PlainRequest
from meshlib.registry.service import Endpoint
from meshlib.transport.runtimes import targets
from meshlib.transport.runtimes.targets import find_target
from meshlib.transport.upstream.client_settings import ClientSettings
from meshlib.transport.upstream.mutual import MutualTls
from tests.support.mesh_tls import BUNDLES, REVIEWS, identity, svid
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


class OverHttp2(PlainRequest):
    version = "HTTP/2"


def test_what_a_client_of_a_proxy_speaks_is_spoken_where_the_cluster_leaves_it_to_the_client(mesh_of):
    core, cluster = mesh_of(destination_rule("reviews", connectionPool={"http": {"useClientProtocol": True}}))
    (endpoint,) = cluster.endpoints
    one = find_target(core, cluster, endpoint, HTTP, ClientSettings())
    two = find_target(core, cluster, endpoint, OverHttp2("GET", "http", "reviews:9080", "/", {}), ClientSettings())
    assert (one.http2, two.http2) == (False, True)
    assert (
        find_target(core, cluster, endpoint, OverHttp2("GET", "http", "reviews:9080", "/", {}), ClientSettings()) is two
    )
    core, cluster = mesh_of()
    assert not find_target(
        core, cluster, cluster.endpoints[0], OverHttp2("GET", "http", "reviews:9080", "/", {}), ClientSettings()
    ).http2


# -- mTLS of the mesh ---------------------------------------------------------------------------------------------------

SNI = "outbound_.9080_._.reviews.default.svc.cluster.local"
MUTUAL = TlsSettings("ISTIO_MUTUAL", SNI, subject_alt_names=(REVIEWS,))


@pytest.fixture
def mutual_of():
    """A cluster with these settings, of a mesh whose certificate has come or has not."""
    made = []

    def make(ours=True, **settings):
        who, source = identity(svid() if ours else None, start=False)
        mesh = meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", 1)], identity=who)
        made.append(mesh)
        core = mesh._core
        (key,) = [key for key in core.live.snapshot.clusters if "reviews" in key]
        bound = core.live.cluster(key)
        if settings.pop("auto", False):
            settings |= {"auto_mtls": MUTUAL, "mutual": frozenset({bound.endpoints[0].key})}
        cluster = BoundCluster(replace(bound.spec, **settings), ClusterState(key), 0.0)
        return core, cluster, cluster.endpoints[0], source

    yield make
    for mesh in made:
        mesh.close()


def test_mtls_that_a_rule_asks_for_is_made_whether_or_not_there_is_a_certificate(mutual_of):
    core, cluster, endpoint, _ = mutual_of(ours=False, tls=MUTUAL, destination_rule="DestinationRule/default/reviews")
    found = find_target(core, cluster, endpoint, HTTP, ClientSettings())
    assert isinstance(found.tls, MutualTls)
    assert (found.tls.allowed, found.tls.wanted_by) == ((REVIEWS,), "DestinationRule/default/reviews")
    assert (found.server_hostname, found.subject_alt_names, found.scheme) == (SNI, (), b"http")
    assert find_target(core, cluster, endpoint, HTTP, ClientSettings(verify=False)) is found


def test_auto_mtls_is_for_endpoints_that_take_it(mutual_of):
    core, cluster, endpoint, _ = mutual_of(auto_mtls=MUTUAL, mutual=frozenset({"10.9.9.9:9080"}))
    assert find_target(core, cluster, endpoint, HTTP, ClientSettings()).tls is None
    core, cluster, endpoint, _ = mutual_of(auto=True)
    found = find_target(core, cluster, endpoint, HTTP, ClientSettings())
    assert isinstance(found.tls, MutualTls)
    assert found.tls.wanted_by == "auto mTLS for reviews.default.svc.cluster.local"


def test_auto_mtls_without_a_certificate_is_plain_text_until_one_comes(mutual_of):
    core, cluster, endpoint, source = mutual_of(ours=False, auto=True)
    plain = find_target(core, cluster, endpoint, HTTP, ClientSettings())
    assert (plain.tls, plain.retired) == (None, False)
    source.publish(svid(), BUNDLES)
    assert isinstance(find_target(core, cluster, endpoint, HTTP, ClientSettings()).tls, MutualTls)
    assert plain.retired  # and what is open to it takes no more calls
    assert endpoint not in cluster.targets


def test_a_caller_who_says_https_has_chosen_the_tls(mutual_of):
    core, cluster, endpoint, _ = mutual_of(auto=True)
    found = find_target(core, cluster, endpoint, HTTPS, ClientSettings())
    assert (isinstance(found.tls, MutualTls), found.server_hostname) == (False, "reviews")


def test_a_name_takes_mtls_at_all_its_addresses(mutual_of):
    endpoints = (Endpoint("reviews.test", 9080), Endpoint("ratings.test", 9080))
    core, cluster, _, _ = mutual_of(
        auto_mtls=MUTUAL, mutual=frozenset({"reviews.test:9080"}), resolution="dns", endpoints=endpoints, placement=None
    )
    for name, addresses in (("reviews.test", ("10.0.0.1", "10.0.0.2")), ("ratings.test", ("10.0.0.3",))):
        cluster.resolved(name, addresses, 0.0)
    taking = [
        isinstance(find_target(core, cluster, endpoint, HTTP, ClientSettings()).tls, MutualTls)
        for endpoint in cluster.endpoints
    ]
    assert taking == [True, True, False]


def test_without_mtls_nothing_is_asked_of_the_identity(mesh_of):
    core, cluster = mesh_of()
    core.servers = None  # what asks it fails
    (endpoint,) = cluster.endpoints
    assert find_target(core, cluster, endpoint, HTTP, ClientSettings()).tls is None

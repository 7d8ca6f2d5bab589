"""Istio's dashboards on a running Bookinfo: a real Prometheus scrapes it, and responds to every query of theirs with data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.demo.bookinfo.services import details, productpage, ratings, reviews
from meshlib.demo.bookinfo.services.serve import SERVICES, workload_of
from tests.support.dashboard_queries import complete, has_no_data, shapes, substituted
from tests.support.mesh_server import MeshServer
from tests.support.mesh_tls import identity, svid
from tests.support.metrics_server import metrics_server
from tests.support.peer_authentication import peer_authentication
from tests.support.prometheus import Prometheus, needs_prometheus, prometheus
from tests.support.resources import pod, service
from tests.support.servers import EchoServer

__all__ = ["prometheus"]
pytestmark = needs_prometheus

VERSIONS = {"productpage": "v1", "details": "v1", "reviews": "v3", "ratings": "v1"}
VARIABLES = {
    "service": "reviews.default.svc.cluster.local",
    "workload": "reviews-v3",
    "namespace": "default",
    "qrep": "(source|destination|waypoint)",
    "__rate_interval": "5m",
    **dict.fromkeys(("dstcluster", "dstns", "dstsvc", "dstwl", "srcns", "srcwl"), ".*"),
}


class Bookinfo(NamedTuple):
    targets: list[str]
    registries: dict[str, CollectorRegistry]


class _Application:
    """Behind a server that runs before the application can be made: its clients need the mesh that the server is of."""

    app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def place(name: str, port: int) -> dict[str, Any]:
    version = VERSIONS[name]
    made = pod(name, version, port, name=f"{name}-{version}-5d4f7-abcde")
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{name}-{version}-5d4f7", "controller": True}
    made["metadata"] |= {"generateName": f"{name}-{version}-5d4f7-", "ownerReferences": [owner]}
    made["metadata"]["labels"] |= {"pod-template-hash": "5d4f7", "security.istio.io/tlsMode": "istio"}
    made["spec"]["serviceAccountName"] = f"bookinfo-{name}"
    return made


@pytest.fixture(scope="module")
def bookinfo() -> Iterator[Bookinfo]:
    """Four services, each with a mesh and an identity of its own, that call each other over mTLS; people come in plain text."""
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        registries = {name: CollectorRegistry() for name in SERVICES}
        meshes, servers, apps = {}, {}, {}
        for name in SERVICES:
            workload = workload_of(name, VERSIONS[name])
            ours = identity(svid(workload.principal), start=False)[0]
            mesh = meshlib.Mesh.from_resources([], workload=workload, identity=ours, registry=registries[name])
            meshes[name], apps[name] = enter(mesh), _Application()
            servers[name] = enter(MeshServer(apps[name], mesh))
        resources = [peer_authentication("all", "PERMISSIVE")]
        for name in SERVICES:
            resources += [service(name), place(name, servers[name].port)]
        for mesh in meshes.values():
            mesh.apply(resources)
        apps["details"].app, apps["ratings"].app = details.create_app(), ratings.create_app()
        for name, create in (("productpage", productpage.create_app), ("reviews", reviews.create_app)):
            apps[name].app = create(meshes[name].async_client(), version=VERSIONS[name], pod=name)
        outside = enter(EchoServer())

        def browse() -> None:
            for _ in range(2):
                for path in ("/productpage", "/nothing"):
                    httpx.get(f"http://127.0.0.1:{servers['productpage'].port}{path}", timeout=30)
                httpx.get(f"http://127.0.0.1:{servers['reviews'].port}/reviews/0", timeout=30)
                with meshes["reviews"].client() as client:
                    client.get(f"http://127.0.0.1:{outside.port}/")

        browse()
        yield Bookinfo([enter(metrics_server(registry)) for registry in registries.values()], registries)


@pytest.fixture(scope="module")
def scraped(bookinfo: Bookinfo, prometheus: Prometheus) -> Prometheus:
    prometheus.scrape("bookinfo", *bookinfo.targets)
    prometheus.scraped("bookinfo", times=2)
    return prometheus


@pytest.mark.parametrize("queries", [shapes, complete], ids=["shapes", "complete"])
def test_every_query_of_istios_dashboards_has_data(queries: Any, scraped: Prometheus) -> None:
    asked = list(queries())
    if not asked:
        pytest.skip("Istio's complete list does not lie beside this clone: only the shapes of its queries are asked")
    without = []
    for query in asked:
        found = scraped.query(substituted(query, VARIABLES))
        if not found and not has_no_data(query):
            without.append(query)
    assert without == []


def test_every_target_was_scraped_without_an_error(scraped: Prometheus) -> None:
    assert set(scraped.health().values()) == {"up"}


def test_what_istio_s_queries_may_lack_is_said_of_few(scraped: Prometheus) -> None:
    reasons = [has_no_data(query) for query in complete()]
    assert sum(bool(reason) for reason in reasons) < 60
    assert not any(has_no_data(query) for query in shapes())


def test_both_ends_of_a_call_say_the_same_of_it(scraped: Prometheus) -> None:
    chosen = 'source_workload_namespace="default",destination_workload="ratings-v1",response_code="200"'
    ends = scraped.query(
        f"sum(istio_requests_total{{{chosen}}}) by (reporter, source_principal, destination_principal)"
    )
    values = {sample.labels["reporter"]: sample for sample in ends}
    assert values["source"].value == values["destination"].value == 4
    source, destination = ({**values[end].labels, "reporter": ""} for end in ("source", "destination"))
    assert source == destination
    assert destination["source_principal"] == "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"

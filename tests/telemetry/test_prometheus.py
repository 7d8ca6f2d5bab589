"""What a real Prometheus makes of a mesh's metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import prometheus_client
import pytest
from prometheus_client.exposition import generate_latest

from meshlib import Mesh, Workload
from tests.support.prometheus import Prometheus, QueryRefused, needs_prometheus, prometheus, promtool
from tests.support.servers import EchoServer

__all__ = ["prometheus"]
pytestmark = needs_prometheus

UNIT = re.compile("istio_request_duration_milliseconds(_created)? use base unit")
PAYMENT = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: payment}
spec:
  hosts: [payment.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {http: %d}, labels: {app: payment, version: v2}}]
"""


@pytest.fixture(scope="module")
def registry() -> Iterator[prometheus_client.CollectorRegistry]:
    registry = prometheus_client.CollectorRegistry()
    workload = Workload(name="shop", namespace="checkout", labels={"app": "shop", "version": "v1"})
    with EchoServer() as server, Mesh.from_yaml(PAYMENT % server.port, workload=workload, registry=registry) as mesh:
        with mesh.client() as client:
            for _ in range(3):
                assert client.get("http://payment.example/").status_code == httpx.codes.OK
        yield registry


def test_a_mesh_is_scraped_and_queried(prometheus: Prometheus, registry: prometheus_client.CollectorRegistry) -> None:
    server, thread = prometheus_client.start_http_server(0, "127.0.0.1", registry)
    try:
        prometheus.scrape("shop", f"127.0.0.1:{server.server_port}")
        (sample,) = prometheus.until('istio_requests_total{source_workload="shop",destination_version="v2"}')
        assert sample.value == 3
        assert sample.labels["job"] == "shop"
        prometheus.scraped("shop", times=2)
        (rate,) = prometheus.query("rate(istio_requests_total[1m])")
        assert rate.value == 0
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


def test_a_query_that_is_not_valid_is_refused(prometheus: Prometheus) -> None:
    with pytest.raises(QueryRefused, match="parse error"):
        prometheus.query("sum(rate(istio_requests_total[5m])")


def test_promtool_minds_nothing_but_the_unit_in_istios_own_name(registry: prometheus_client.CollectorRegistry) -> None:
    _, said = promtool("check", "metrics", given=generate_latest(registry))
    assert [line for line in said.splitlines() if not UNIT.match(line)] == []
    status, said = promtool("check", "metrics", given=b"requests{} 1\nrequests{ 2\n")
    assert status == 1, said

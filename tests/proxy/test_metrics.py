"""What a scrape says of a proxy process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from meshlib.proxy.metrics import ProxyMetrics
from tests.support.proxy import Proxy
from tests.support.resources import pod, service
from tests.support.servers import EchoServer


def test_connections_and_refusals_are_counted_by_listener() -> None:
    with EchoServer("v1") as server, Proxy([service("reviews"), pod("reviews", "v1", server.port)]) as proxy:
        with proxy.client() as client, proxy.client() as wrong:
            assert client.get().status == 200
            wrong.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
            assert wrong.response().status == 400
            assert proxy.metric("meshlib_proxy_downstream_connections_active", listener="outbound") >= 1
            assert proxy.metric("meshlib_proxy_downstream_connections_total", listener="outbound") == 2
            assert proxy.metric("meshlib_proxy_refused_requests_total", listener="outbound", code="400") == 1


def test_they_are_gone_with_the_process() -> None:
    class Nothing:
        overload = None
        dns = None

        def listeners(self) -> list[tuple[str, str, object]]:
            return []

    registry = CollectorRegistry()
    metrics = ProxyMetrics(registry, Nothing())  # type: ignore[arg-type]
    assert len(list(registry.collect())) == 5
    metrics.close()
    metrics.close()
    assert list(registry.collect()) == []

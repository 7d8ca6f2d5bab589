"""What the requests of one event loop are forwarded with."""

from __future__ import annotations

from types import SimpleNamespace

import meshlib
from meshlib.proxy.means import Means
from meshlib.proxy.request import ProxyRequest
from meshlib.transport.protocol.raw_response import RawResponseReader
from tests.support.resources import pod, service


async def test_an_attempts_deadline_is_told_by_the_loops_clock_and_its_timeout_as_it_is():
    with meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", 1)]) as mesh:
        means = Means(mesh._core)
        assert means.upstream.reader is RawResponseReader
        live = mesh._core.live
        cluster = next(c for c in map(live.cluster, live.snapshot.clusters) if c.endpoints)
        request = ProxyRequest(
            b"GET", b"reviews:9080", b"/", b"Host: reviews:9080\r\n", b"\r\nhost: reviews:9080\r\n", None
        )
        send = SimpleNamespace(cluster=cluster, endpoint=cluster.endpoints[0], timeout=2.0, deadline=None)
        attempt = means.attempt(send, request)
        assert (attempt.target.port, attempt.head_timeout, attempt.deadline) == (1, 2.0, None)
        means.core = SimpleNamespace(clock=SimpleNamespace(monotonic=lambda: 100.0))
        send.deadline = 101.0
        means.loop = SimpleNamespace(time=lambda: 7.0)
        assert means.attempt(send, request).deadline == 8.0
        means.loop = means.upstream.loop
        await means.close()

"""A server of Envoy's rate-limit service for tests, and the resources that lead to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

from tests.support.ads_server import message, pool
from tests.support.resources import Resource

HOST = "ratelimit.test"


def response(**fields: Any) -> Any:
    from google.protobuf import json_format

    made = message("envoy.service.ratelimit.v3.RateLimitResponse")()
    return json_format.ParseDict(fields, made, descriptor_pool=pool())


OK = {"overallCode": "OK"}
OVER = {"overallCode": "OVER_LIMIT"}


@contextlib.contextmanager
def serving(decide: Callable[[Any], Any]) -> Iterator[tuple[int, list[Any]]]:
    """(port, what it was asked). ``decide`` gives a RateLimitResponse's fields, or bytes that are sent in its place."""
    import grpc

    seen: list[Any] = []

    def should(raw: bytes, _context: Any) -> bytes:
        asked = message("envoy.service.ratelimit.v3.RateLimitRequest")().FromString(raw)
        seen.append(asked)
        found = decide(asked)
        return found if isinstance(found, bytes) else response(**found).SerializeToString()

    name = "envoy.service.ratelimit.v3.RateLimitService"
    handler = grpc.method_handlers_generic_handler(
        name, {"ShouldRateLimit": grpc.unary_unary_rpc_method_handler(should)}
    )
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port, seen
    finally:
        server.stop(0).wait(60)


def entry(port: int) -> Resource:
    """A ServiceEntry: ``HOST``, port 8081."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "ratelimit", "namespace": "default"},
        "spec": {
            "hosts": [HOST],
            "resolution": "STATIC",
            "ports": [{"name": "grpc", "number": 8081, "protocol": "GRPC"}],
            "endpoints": [{"address": "127.0.0.1", "ports": {"grpc": port}}],
        },
    }

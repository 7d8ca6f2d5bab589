"""The shop's services without mesh and without processes, on plain channels."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from typing import Any

import grpc

from meshlib.demo.shop.play import stubs
from shop.catalog import Catalog
from shop.drill import Drill
from shop.orders import Orders


class Seen(grpc.ServerInterceptor):  # type: ignore[misc,type-arg]
    """Keeps the metadata of each call."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, str | bytes]] = []

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        self.metadata.append(dict(handler_call_details.invocation_metadata))
        return continuation(handler_call_details)


@contextlib.contextmanager
def catalog(version: str = "v1") -> Iterator[tuple[Any, Drill, str, Seen]]:
    """A catalog's stub, its drill, its address and what it has seen."""
    drill, seen = Drill(), Seen()
    server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=[seen])
    stubs.catalog_pb2_grpc.add_CatalogServicer_to_server(Catalog(f"catalog-{version}-1", version, drill), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        with grpc.insecure_channel(address) as channel:
            yield stubs.catalog_pb2_grpc.CatalogStub(channel), drill, address, seen
    finally:
        server.stop(0).wait(60)


@contextlib.asynccontextmanager
async def orders(catalog_address: str) -> AsyncIterator[Any]:
    """The stub of an orders service that asks the catalog at that address."""
    async with grpc.aio.insecure_channel(catalog_address) as to_catalog:
        server = grpc.aio.server()
        service = Orders("orders-v1-1", stubs.catalog_pb2_grpc.CatalogStub(to_catalog))
        stubs.orders_pb2_grpc.add_OrdersServicer_to_server(service, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield stubs.orders_pb2_grpc.OrdersStub(channel)
        finally:
            await server.stop(0)

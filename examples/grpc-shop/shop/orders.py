"""Orders: an asyncio gRPC server that calls the catalog through the mesh. ``python -m shop.orders --mesh FOLDER``

``mesh.aio_grpc_channel("catalog:7001")`` is an ordinary ``grpc.aio`` channel to the generated stub. Nothing below hands a
deadline on: the interceptors of the server take it in, the channel gives each call what is left of it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import AsyncIterator

import grpc

from shop import catalog_pb2, catalog_pb2_grpc, orders_pb2, orders_pb2_grpc
from shop.serving import GRACE_SECONDS, NO_REUSE, announce, arguments, follow_lifeline, mesh_of

CATALOG = "catalog:7001"
FORWARDED = ("x-canary", "x-request-id", "traceparent", "tracestate", "b3", "grpc-trace-bin")
"""Metadata that belongs to the whole chain of calls: who tries the canary tries it everywhere, and the trace goes on, as
every application behind Istio hands it on. With an OpenTelemetry SDK the mesh makes spans and this only keeps them together."""
LOWEST_PERCENT = 90
"""Of its price, a product goes for no less."""


class Orders(orders_pb2_grpc.OrdersServicer):
    """``catalog`` is the stub of the other service."""

    def __init__(self, pod: str, catalog: catalog_pb2_grpc.CatalogStub) -> None:
        self._pod = pod
        self._catalog = catalog

    async def PlaceOrder(  # noqa: N802 (the name of the .proto)
        self, lines: AsyncIterator[orders_pb2.Line], context: grpc.aio.ServicerContext
    ) -> orders_pb2.Receipt:
        receipt = orders_pb2.Receipt(pod=self._pod)
        async for line in lines:
            product = await self._product(line.product_id, context)
            priced = receipt.lines.add(
                product_id=line.product_id,
                quantity=line.quantity,
                unit_cents=product.cents,
                catalog_version=product.served.version,
                catalog_trace_id=product.served.trace_id,
            )
            if product.served.HasField("time_left_ms"):
                priced.catalog_time_left_ms = product.served.time_left_ms
            receipt.total_cents += line.quantity * product.cents
        return receipt

    async def Negotiate(  # noqa: N802
        self, offers: AsyncIterator[orders_pb2.Offer], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[orders_pb2.Counter]:
        async for offer in offers:
            price = (await self._product(offer.product_id, context)).cents
            accepted = offer.cents * 100 >= price * LOWEST_PERCENT
            cents = offer.cents if accepted else (offer.cents + price) // 2
            yield orders_pb2.Counter(round=offer.round, cents=cents, accepted=accepted)

    async def _product(self, name: str, context: grpc.aio.ServicerContext) -> catalog_pb2.Product:
        metadata = [(key, value) for key, value in context.invocation_metadata() or () if key in FORWARDED]
        try:
            found: catalog_pb2.Product = await self._catalog.GetProduct(
                catalog_pb2.GetProductRequest(id=name), metadata=metadata
            )
        except grpc.RpcError as error:
            # the caller learns what it would have learnt from the catalog itself
            await context.abort(error.code(), f"catalog: {error.details()}")
        return found


async def serve(args: argparse.Namespace) -> None:
    """Serve until told to end."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    async with mesh_of("orders", args) as mesh, mesh.aio_grpc_channel(CATALOG) as channel:
        server = grpc.aio.server(interceptors=mesh.aio_grpc_server_interceptors(), options=NO_REUSE)
        orders_pb2_grpc.add_OrdersServicer_to_server(Orders(args.pod, catalog_pb2_grpc.CatalogStub(channel)), server)
        port = server.add_insecure_port(f"127.0.0.1:{args.port}")
        await server.start()
        announce(port)
        if args.lifeline:
            follow_lifeline(lambda word: None, lambda: loop.call_soon_threadsafe(ending.set))
        await ending.wait()
        await server.stop(GRACE_SECONDS)


if __name__ == "__main__":
    asyncio.run(serve(arguments("orders", None)))

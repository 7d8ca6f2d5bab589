"""The catalog: a blocking gRPC server. ``python -m shop.catalog --mesh FOLDER [--version v2]``

The only lines about the mesh are those with ``mesh`` in them: the server is given its interceptors, which identify the
caller, carry its deadline on to what the handlers call, trace, and count.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent import futures

import grpc

from shop import catalog_pb2, catalog_pb2_grpc
from shop.drill import Drill
from shop.serving import GRACE_SECONDS, NO_REUSE, announce, arguments, follow_lifeline, mesh_of, say

THREADS = 16
AGES = 1e6  # seconds: grpcio tells of a call without deadline that it has this much time, and more
SHELVES = {
    "tea": (("assam", 690), ("ceylon", 640), ("darjeeling", 1190), ("earl-grey", 720), ("sencha", 980)),
    "coffee": (("arabica", 890), ("robusta", 590), ("sidamo", 1090)),
    "china": (("cup", 1250), ("pot", 3900), ("saucer", 750), ("strainer", 480)),
}
PRODUCTS = {name: (shelf, cents) for shelf, products in SHELVES.items() for name, cents in products}


class Catalog(catalog_pb2_grpc.CatalogServicer):
    """``version`` v2 also tells the stock. ``drill`` is what it does wrong on purpose."""

    def __init__(self, pod: str, version: str, drill: Drill) -> None:
        self._pod = pod
        self._version = version
        self._drill = drill

    def GetProduct(  # noqa: N802 (the name of the .proto)
        self, request: catalog_pb2.GetProductRequest, context: grpc.ServicerContext
    ) -> catalog_pb2.Product:
        self._drill.before(context)
        if request.id not in PRODUCTS:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no product {request.id!r}")
        return self._product(request.id, context)

    def ListProducts(  # noqa: N802
        self, request: catalog_pb2.ListProductsRequest, context: grpc.ServicerContext
    ) -> Iterator[catalog_pb2.Product]:
        for name, (shelf, _) in sorted(PRODUCTS.items()):
            if request.shelf in ("", shelf):
                yield self._product(name, context)

    def _product(self, name: str, context: grpc.ServicerContext) -> catalog_pb2.Product:
        shelf, cents = PRODUCTS[name]
        found = catalog_pb2.Product(id=name, name=name.replace("-", " ").title(), shelf=shelf, cents=cents)
        found.served.CopyFrom(self._served(context))
        if self._version != "v1":
            found.stock = len(name)
        return found

    def _served(self, context: grpc.ServicerContext) -> catalog_pb2.Served:
        served = catalog_pb2.Served(pod=self._pod, version=self._version)
        left = context.time_remaining()
        if left is not None and left < AGES:
            served.time_left_ms = int(left * 1000)
        for key, value in context.invocation_metadata():
            if key == "traceparent" and isinstance(value, str):
                served.trace_id = value[3:35]
        return served


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until told to end."""
    args = arguments("catalog", argv)
    drill = Drill()
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())

    def command(word: str) -> None:
        drill.begin(word)
        say({"drill": word})

    with mesh_of("catalog", args) as mesh:
        server = grpc.server(
            futures.ThreadPoolExecutor(THREADS), interceptors=mesh.grpc_server_interceptors(), options=NO_REUSE
        )
        catalog_pb2_grpc.add_CatalogServicer_to_server(Catalog(args.pod, args.version, drill), server)
        port = server.add_insecure_port(f"127.0.0.1:{args.port}")
        server.start()
        announce(port)
        if args.lifeline:
            follow_lifeline(command, ending.set)
        ending.wait()
        server.stop(GRACE_SECONDS).wait()


if __name__ == "__main__":
    main()

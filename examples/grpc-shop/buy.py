"""The smallest client of the shop: ``python examples/grpc-shop/buy.py FOLDER [--canary]``.

FOLDER is the folder of YAML that ``meshlib demo grpc`` prints while the shop is open. Looks at a product and at why this
version of the catalog answered, then places an order.
"""

from __future__ import annotations

import sys

import meshlib
from shop import catalog_pb2, catalog_pb2_grpc, orders_pb2, orders_pb2_grpc


def main(folder: str, canary: bool) -> None:
    metadata = (("x-canary", "yes"),) if canary else ()
    me = meshlib.Workload("customer", labels={"app": "customer"})
    with meshlib.Mesh.from_path(folder, watch=False, workload=me) as mesh:
        with mesh.grpc_channel("catalog:7001") as channel:
            catalog = catalog_pb2_grpc.CatalogStub(channel)
            request = catalog_pb2.GetProductRequest(id="pot")
            product, call = catalog.GetProduct.with_call(request, metadata=metadata, timeout=2)
            print(f"{product.name}: {product.cents / 100:.2f}, says {product.served.pod}")
            print(f"decided by {call.exchange.resource}, rule {call.exchange.rule_name} -> {call.exchange.subset}")
        with mesh.grpc_channel("orders:7002") as channel:
            orders = orders_pb2_grpc.OrdersStub(channel)
            lines = (orders_pb2.Line(product_id=name, quantity=2) for name in ("pot", "cup", "assam"))
            receipt = orders.PlaceOrder(lines, metadata=metadata, timeout=2)
            print(f"ordered {len(receipt.lines)} lines, {receipt.total_cents / 100:.2f} in all")


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--canary"]
    if len(arguments) != 1:
        sys.exit(__doc__)
    main(arguments[0], "--canary" in sys.argv)

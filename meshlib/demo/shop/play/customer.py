"""A customer of the shop: generated stubs on ``mesh.grpc_channel``, and what came of each call."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc

import meshlib
from meshlib.demo.shop.play.stubs import catalog_pb2, catalog_pb2_grpc, orders_pb2, orders_pb2_grpc

CATALOG = "catalog:7001"
ORDERS = "orders:7002"
CUSTOMER = meshlib.Workload("customer", labels={"app": "customer"})
PATIENCE = 10.0
"""Seconds a call may take when its scenario is not about time: a broken mesh is to fail, not to hang."""
WIDTH = 8

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """``messages`` came before the call ended with ``code`` and ``details``, ``seconds`` after it began; ``attempts`` and
    ``flags`` tell what the mesh did."""

    messages: tuple[Any, ...]
    code: str
    details: str
    attempts: int
    flags: str
    seconds: float

    @property
    def message(self) -> Any:
        """The only answer of a call that is OK."""
        return self.messages[0]

    @property
    def version(self) -> str:
        """Which catalog answered; the status when none did."""
        return self.message.served.version if self.code == "OK" else self.code


class Customer:
    """A context manager. ``ended`` counts its calls by service and status."""

    def __init__(self, mesh: meshlib.Mesh) -> None:
        self.mesh = mesh
        self.ended: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._catalog_channel = mesh.grpc_channel(CATALOG)
        self._orders_channel = mesh.grpc_channel(ORDERS)
        self._catalog = catalog_pb2_grpc.CatalogStub(self._catalog_channel)
        self._orders = orders_pb2_grpc.OrdersStub(self._orders_channel)

    def __enter__(self) -> Customer:
        return self

    def __exit__(self, *_: object) -> None:
        self._catalog_channel.close()
        self._orders_channel.close()

    def product(self, name: str = "cup", metadata: Metadata = (), timeout: float = PATIENCE) -> Answer:
        """One product: a unary call."""
        request = catalog_pb2.GetProductRequest(id=name)
        return self._single("catalog", self._catalog.GetProduct, request, metadata, timeout)

    def products(self, n: int, metadata: Metadata = (), width: int = WIDTH) -> Iterator[Answer]:
        """``n`` calls of ``product``, ``width`` at a time, as they end."""
        with ThreadPoolExecutor(width) as pool:
            yield from pool.map(lambda _: self.product(metadata=metadata), range(n))

    def listed(self, shelf: str = "", metadata: Metadata = (), timeout: float = PATIENCE) -> Answer:
        """Every product: a stream from the server."""
        request = catalog_pb2.ListProductsRequest(shelf=shelf)
        return self._stream("catalog", self._catalog.ListProducts, request, metadata, timeout)

    def order(self, lines: Iterable[tuple[str, int]], metadata: Metadata = (), timeout: float = PATIENCE) -> Answer:
        """The receipt of an order: a stream to the server."""
        requests = (orders_pb2.Line(product_id=name, quantity=quantity) for name, quantity in lines)
        return self._single("orders", self._orders.PlaceOrder, requests, metadata, timeout)

    def negotiate(self, name: str, cents: int, raise_by: int, rounds: int, timeout: float = PATIENCE) -> Answer:
        """Haggle for ``rounds``: streams both ways, each offer made only after the answer to the one before has come."""
        answered = threading.Semaphore(1)

        def offers() -> Iterator[Any]:
            for number in range(1, rounds + 1):
                if not answered.acquire(timeout=timeout):
                    return
                yield orders_pb2.Offer(round=number, product_id=name, cents=cents + (number - 1) * raise_by)

        return self._stream("orders", self._orders.Negotiate, offers(), (), timeout, lambda _: answered.release())

    def _single(self, service: str, method: Any, request: Any, metadata: Metadata, timeout: float) -> Answer:
        started = time.monotonic()
        try:
            message, call = method.with_call(request, timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            return self._ended(service, (), error, started)
        return self._ended(service, (message,), call, started)

    def _stream(
        self,
        service: str,
        method: Any,
        request: Any,
        metadata: Metadata,
        timeout: float,
        seen: Callable[[Any], None] = lambda _: None,
    ) -> Answer:
        started = time.monotonic()
        messages = []
        call = method(request, timeout=timeout, metadata=metadata)
        try:
            for message in call:
                messages.append(message)
                seen(message)
        except grpc.RpcError as error:
            return self._ended(service, tuple(messages), error, started)
        return self._ended(service, tuple(messages), call, started)

    def _ended(self, service: str, messages: tuple[Any, ...], call: Any, started: float) -> Answer:
        """``call`` is a call that has ended or the error it ended with: grpcio's users ask both the same things."""
        seconds = time.monotonic() - started
        code = call.code().name
        with self._lock:
            self.ended[service, code] += 1
        record = getattr(call, "exchange", None)
        attempts = len(record.attempts) if record is not None else 0
        return Answer(
            messages, code, call.details() or "", attempts, record.flags if record is not None else "", seconds
        )

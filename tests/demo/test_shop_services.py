"""catalog and orders by themselves: what they answer, what they hand on, what a drill makes of them."""

from __future__ import annotations

import grpc
import pytest

from meshlib.demo.shop.play.stubs import catalog_pb2 as cpb
from meshlib.demo.shop.play.stubs import orders_pb2 as opb
from shop import drill as drills
from tests.demo.shop_apps import catalog, orders

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")


def test_a_product_tells_its_price_and_who_answered():
    with catalog() as (stub, _, _, _):
        found = stub.GetProduct(cpb.GetProductRequest(id="earl-grey"))
    assert (found.name, found.shelf, found.cents) == ("Earl Grey", "tea", 720)
    assert (found.served.pod, found.served.version) == ("catalog-v1-1", "v1")


def test_only_the_second_version_knows_the_stock():
    for version, known in (("v1", False), ("v2", True)):
        with catalog(version) as (stub, _, _, _):
            assert stub.GetProduct(cpb.GetProductRequest(id="cup")).HasField("stock") is known


def test_an_unknown_product_is_not_found():
    with catalog() as (stub, _, _, _), pytest.raises(grpc.RpcError) as caught:
        stub.GetProduct(cpb.GetProductRequest(id="gold"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "no product 'gold'"


def test_a_shelf_is_listed_in_order_and_no_shelf_means_all():
    with catalog() as (stub, _, _, _):
        coffee = [p.id for p in stub.ListProducts(cpb.ListProductsRequest(shelf="coffee"))]
        everything = [p.id for p in stub.ListProducts(cpb.ListProductsRequest())]
    assert coffee == ["arabica", "robusta", "sidamo"]
    assert everything == sorted(everything)
    assert len(everything) == 12


def test_a_product_tells_the_deadline_and_the_trace_of_the_call_or_that_it_had_none():
    with catalog() as (stub, _, _, _):
        bare = stub.GetProduct(cpb.GetProductRequest(id="cup")).served
        told = stub.GetProduct(cpb.GetProductRequest(id="cup"), timeout=60, metadata=(TRACEPARENT,)).served
    assert not bare.HasField("time_left_ms")
    assert bare.trace_id == ""
    assert 20_000 < told.time_left_ms < 61_000  # gRPC sends time limits rounded up by up to 1 %
    assert told.trace_id == TRACE


def test_the_drill_every_other_fails_the_first_call_and_then_every_second():
    with catalog() as (stub, drill, _, _):
        drill.begin("every-other")
        seen = []
        for _ in range(4):
            try:
                stub.GetProduct(cpb.GetProductRequest(id="cup"))
                seen.append("OK")
            except grpc.RpcError as error:
                seen.append(error.code().name)
        drill.begin("none")
        stub.GetProduct(cpb.GetProductRequest(id="cup"))
    assert seen == ["UNAVAILABLE", "OK", "UNAVAILABLE", "OK"]


def test_the_drill_slow_lets_the_thread_go_when_the_caller_hangs_up(monkeypatch):
    monkeypatch.setattr(drills, "SLOW_SECONDS", 600.0)
    with catalog() as (stub, drill, _, _):
        drill.begin("slow")
        for _ in range(8):  # twice the threads there are: the last would wait for the first
            with pytest.raises(grpc.RpcError) as caught:
                stub.GetProduct(cpb.GetProductRequest(id="cup"), timeout=0.05)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        drill.begin("none")
        assert stub.GetProduct(cpb.GetProductRequest(id="cup"), timeout=60).name


def test_an_unknown_drill_is_refused_by_name():
    with catalog() as (_, drill, _, _), pytest.raises(ValueError, match="every-other, slow, not 'fire'"):
        drill.begin("fire")


async def test_an_order_is_priced_line_by_line():
    with catalog() as (_, _, address, _):
        async with orders(address) as stub:
            receipt = await stub.PlaceOrder(opb.Line(product_id=i, quantity=q) for i, q in (("cup", 2), ("pot", 1)))
    assert [(line.product_id, line.quantity, line.unit_cents) for line in receipt.lines] == [
        ("cup", 2, 1250),
        ("pot", 1, 3900),
    ]
    assert receipt.total_cents == 6400


async def test_an_order_of_what_is_not_sold_fails_with_the_catalogs_status():
    with catalog() as (_, _, address, _):
        async with orders(address) as stub:
            with pytest.raises(grpc.RpcError) as caught:
                await stub.PlaceOrder(iter([opb.Line(product_id="gold", quantity=1)]))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "catalog: no product 'gold'"


async def test_canary_and_trace_go_on_to_the_catalog_and_other_metadata_does_not():
    sent = (TRACEPARENT, ("x-canary", "yes"), ("x-secret", "1"))
    with catalog() as (_, _, address, seen):
        async with orders(address) as stub:
            receipt = await stub.PlaceOrder(iter([opb.Line(product_id="cup", quantity=1)]), metadata=sent)
    assert receipt.lines[0].catalog_trace_id == TRACE
    assert seen.metadata[0]["x-canary"] == "yes"
    assert "x-secret" not in seen.metadata[0]


async def test_haggling_meets_in_the_middle_until_an_offer_is_near_the_price():
    with catalog() as (_, _, address, _):
        async with orders(address) as stub:
            offers = [opb.Offer(round=n, product_id="pot", cents=c) for n, c in ((1, 1900), (2, 3509), (3, 3510))]
            answers = [(a.round, a.cents, a.accepted) async for a in stub.Negotiate(iter(offers))]
    assert answers == [(1, 2900, False), (2, 3704, False), (3, 3510, True)]

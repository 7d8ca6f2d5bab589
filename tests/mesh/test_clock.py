"""``clock=`` replaces all time by which a mesh decides: nothing here waits, though policies speak of minutes."""

from __future__ import annotations

import time

import pytest

from tests.support.fake_clock import FakeClock, FourMethods
from tests.support.grpc_echo import EchoServer
from tests.support.grpc_worlds import HOST, WORLDS, mesh_of
from tests.support.resources import to

CLOCKS = pytest.mark.parametrize("kind", [FakeClock, FourMethods])
KINDS = ("unary", "expand", "collect", "chat")


def delayed(seconds):
    return {"fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": seconds}}, "route": [to(HOST)]}


@CLOCKS
@pytest.mark.parametrize("world_class", WORLDS, ids=lambda w: w.name)
@pytest.mark.parametrize("call", KINDS)
async def test_a_fault_of_two_minutes_is_over_at_once(kind, world_class, call):
    clock = kind()
    with EchoServer() as server, mesh_of(server, rules=[delayed("120s")], clock=clock) as mesh:
        began = time.monotonic()
        assert await world_class(mesh).server(call) == "one"
        assert time.monotonic() - began < 60
        assert clock.slept == [120.0]

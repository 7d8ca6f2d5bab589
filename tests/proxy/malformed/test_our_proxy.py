"""Our proxy takes nothing that Envoy refuses, and forwards nothing else than Envoy does: no case is laxer, none hangs.

Every third case of the outbound side, every tenth of the inbound one; ``MESHLIB_MALFORMED_EVERY=1`` for all of them.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator

import pytest

import meshlib
from meshlib.proxy.forward import Forwarder
from meshlib.proxy.inbound_application import ApplicationAddress
from meshlib.proxy.inbound_listener import InboundListener
from meshlib.proxy.listener import Listener
from tests.proxy.malformed.asking import Slot, slots
from tests.proxy.malformed.case import Side
from tests.proxy.malformed.compare import Verdict, compared, resources, table
from tests.proxy.malformed.corpus import cases_of

EVERY = os.environ.get("MESHLIB_MALFORMED_EVERY", "")
LIMIT = 20.0
"""Seconds until a case counts as a hang: none needs one, but the machine may be busy."""


@contextlib.asynccontextmanager
async def outbound(made: list[Slot]) -> AsyncIterator[tuple[str, int]]:
    with meshlib.Mesh.from_resources(resources(made)) as mesh:
        forwarder = Forwarder(mesh._core)
        sock = socket.create_server(("127.0.0.1", 0), backlog=256)
        listener = Listener(sock, forwarder)
        await listener.start()
        try:
            yield sock.getsockname()
        finally:
            listener.stop()
            await listener.drained(5)
            await forwarder.close()


@contextlib.asynccontextmanager
async def inbound(made: list[Slot]) -> AsyncIterator[tuple[str, int]]:
    with meshlib.Mesh.from_resources([], workload=meshlib.Workload("shop")) as mesh:
        listeners = []
        for slot in made:
            sock = socket.create_server(("127.0.0.1", 0), backlog=256)
            slot.proxy = sock.getsockname()
            listeners.append(
                InboundListener(sock, mesh._server(), ApplicationAddress("127.0.0.1", slot.upstream.port, 0))
            )
            await listeners[-1].start()
        try:
            yield "127.0.0.1", 0
        finally:
            for listener in listeners:
                listener.stop()
                await listener.drained(5)
                await listener.forwarder.runtime.aclose()


@pytest.mark.differential
@pytest.mark.slow
@pytest.mark.parametrize(("side", "every"), [("outbound", 3), ("inbound", 10), ("http2", 1)])
async def test_no_case_is_laxer_than_envoy_and_none_hangs(side: Side, every: int) -> None:
    async with slots(24) as made, (inbound if side == "inbound" else outbound)(made) as proxy:
        found = await compared(proxy, made, cases_of(side)[:: int(EVERY or every)], LIMIT, side)
    print(table(found))
    wrong = [each for each in found if each.verdict in (Verdict.LAXER, Verdict.HANG)]
    assert not [(each.case.id, each.verdict.value, each.why, each.case.data[:300]) for each in wrong]
    same = sum(each.verdict is Verdict.SAME for each in found)
    assert same > len(found) * 0.8, table(found)

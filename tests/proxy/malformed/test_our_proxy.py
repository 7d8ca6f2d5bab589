"""Our proxy takes nothing that Envoy refuses, and forwards nothing else than Envoy does: no case is laxer, none hangs.

Every third case; ``MESHLIB_MALFORMED_EVERY=1`` for all of them.
"""

from __future__ import annotations

import os
import socket

import pytest

import meshlib
from meshlib.proxy.forward import Forwarder
from meshlib.proxy.listener import Listener
from tests.proxy.malformed.asking import slots
from tests.proxy.malformed.compare import Verdict, compared, resources, table
from tests.proxy.malformed.corpus import all_cases

EVERY = int(os.environ.get("MESHLIB_MALFORMED_EVERY", "3"))
LIMIT = 20.0
"""Seconds until a case counts as a hang: none needs one, but the machine may be busy."""


@pytest.mark.differential
@pytest.mark.slow
async def test_no_case_is_laxer_than_envoy_and_none_hangs() -> None:
    async with slots(24) as made:
        with meshlib.Mesh.from_resources(resources(made)) as mesh:
            forwarder = Forwarder(mesh._core)
            sock = socket.create_server(("127.0.0.1", 0), backlog=256)
            listener = Listener(sock, forwarder)
            await listener.start()
            try:
                found = await compared(sock.getsockname(), made, all_cases()[::EVERY], LIMIT)
            finally:
                listener.stop()
                await listener.drained(5)
                await forwarder.close()
    print(table(found))
    wrong = [each for each in found if each.verdict in (Verdict.LAXER, Verdict.HANG)]
    assert not [(each.case.id, each.verdict.value, each.why, each.case.data[:300]) for each in wrong]
    same = sum(each.verdict is Verdict.SAME for each in found)
    assert same > len(found) * 0.8, table(found)

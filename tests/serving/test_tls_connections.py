"""A connection whose root was dropped, or whose certificate has ended, is closed: at once while idle, after what is under
way, within a minute at the latest."""

from __future__ import annotations

import asyncio
import logging

import pytest

from meshlib.alarms import Alarms
from meshlib.policy.spiffe_id import SpiffeId
from meshlib.security.authority import Authority
from meshlib.serving.tls_connections import GRACE, LOOK, TlsConnections, why_over
from meshlib.serving.tls_peer import TlsPeer
from tests.support.identities import CLIENT, TodaysClock, World


class Protocol:
    def __init__(self, transport: Transport, busy: bool) -> None:
        self.transport = transport
        self.busy = busy
        self.asked = 0

    def shutdown(self) -> None:
        self.asked += 1
        if not self.busy:
            self.transport.close()


class Transport:
    """As much of a transport as is asked for."""

    def __init__(self, busy: bool = False, knows_shutdown: bool = True) -> None:
        self.protocol = Protocol(self, busy) if knows_shutdown else object()
        self.ended = ""

    def get_protocol(self) -> object:
        return self.protocol

    def is_closing(self) -> bool:
        return bool(self.ended)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = self.ended or "aborted"


class Kept:
    """Connections that are judged, by a clock moved by hand."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = TodaysClock()
        self.alarms = Alarms(self.clock)
        self.vouched = True
        self.all = TlsConnections(world.identity, self._judge, self.clock, self.alarms)
        self.peers: list[TlsPeer] = []

    def _judge(self, leaf: bytes, chain: object) -> SpiffeId | None:
        return SpiffeId.parse(CLIENT) if self.vouched else None

    def add(self, transport: Transport, root: Authority | None = None, until: float = float("inf")) -> bool:
        credentials = self.world.identity.current()
        assert credentials is not None
        root = root or self.world.root
        leaf = root.issue(CLIENT, self.world.now).leaf
        peer = TlsPeer(credentials, leaf, (), (root.root_der,), until)
        self.peers.append(peer)
        return self.all.add(peer, transport)  # type: ignore[arg-type]

    async def passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await settle()


async def settle() -> None:
    """Let alarms ring and the loop hear of it."""
    for _ in range(20):
        await asyncio.sleep(0.002)


@pytest.fixture
async def kept() -> Kept:
    world = World()
    world.rotate()
    kept = Kept(world)
    kept.all.start()
    return kept


async def test_a_rotation_that_keeps_the_root_keeps_the_connection(kept: Kept) -> None:
    transport = Transport()
    assert kept.add(transport)
    kept.world.rotate()
    await settle()
    assert transport.ended == ""
    assert len(kept.all) == 1


async def test_an_idle_connection_of_a_dropped_root_is_closed_at_once_and_others_stay(
    kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    new = Authority.root("cluster.local", kept.world.now)
    kept.world.rotate(kept.world.root, new)
    old, other = Transport(), Transport()
    kept.add(old)
    kept.add(other, new)
    with caplog.at_level(logging.INFO):
        kept.world.rotate(new)
        await settle()
    assert (old.ended, other.ended) == ("closed", "")
    assert kept.all.closed == 1
    assert "no longer trusted" in caplog.text


async def test_a_busy_one_has_until_the_end_of_its_grace_and_is_asked_once(kept: Kept) -> None:
    assert LOOK + GRACE <= 60
    transport = Transport(busy=True)
    kept.add(transport)
    kept.world.rotate(Authority.root("cluster.local", kept.world.now))
    await settle()
    await kept.passes(GRACE - 1)
    assert transport.ended == ""
    assert isinstance(transport.protocol, Protocol)
    assert transport.protocol.asked == 1
    await kept.passes(1.5)
    assert transport.ended == "aborted"


async def test_a_certificate_that_ends_ends_its_connection(kept: Kept) -> None:
    transport, longer = Transport(), Transport()
    kept.add(transport, until=kept.clock.time() + 100)
    kept.add(longer, until=kept.clock.time() + 10_000)
    for _ in range(9):
        await kept.passes(LOOK)
    assert transport.ended == ""
    await kept.passes(LOOK)
    await kept.passes(LOOK)
    assert (transport.ended, longer.ended) == ("closed", "")


async def test_a_clock_that_jumps_is_noticed_at_the_next_look(kept: Kept) -> None:
    transport = Transport()
    kept.add(transport, until=kept.clock.time() + 3000)
    await kept.passes(LOOK)
    kept.clock._today += 3600
    await kept.passes(LOOK + 0.1)
    assert transport.ended == "closed"


async def test_one_that_comes_after_its_end_is_not_served(kept: Kept) -> None:
    """A session may resume whose certificate has ended since."""
    assert not kept.add(Transport(), until=kept.clock.time() - 1)


async def test_a_peer_for_which_nobody_vouches_any_more_is_closed_though_its_root_is_there(kept: Kept) -> None:
    transport = Transport()
    kept.add(transport)
    kept.vouched = False
    await kept.passes(LOOK + 0.1)
    assert transport.ended == "closed"


async def test_a_peer_without_identity_is_judged_by_root_and_dates_alone(kept: Kept) -> None:
    kept.vouched = False
    transport = Transport()
    kept.add(transport)
    await kept.passes(LOOK + 0.1)
    assert transport.ended == ""


async def test_who_knows_no_shutdown_is_closed(kept: Kept) -> None:
    transport = Transport(knows_shutdown=False)
    kept.add(transport)
    kept.world.rotate(Authority.root("cluster.local", kept.world.now))
    await settle()
    assert transport.ended == "closed"


async def test_what_has_closed_is_not_counted_nor_kept(kept: Kept) -> None:
    transport = Transport()
    kept.add(transport)
    transport.close()
    assert len(kept.all) == 0
    kept.peers.clear()
    import gc

    gc.collect()
    assert len(list(kept.all._open)) == 0


def test_why_over_is_decided_by_dates_and_roots() -> None:
    world = World()
    world.rotate()
    before = world.identity.current()
    assert before is not None
    peer = TlsPeer(before, b"", (), (world.root.root_der,), 100.0)
    assert why_over(peer, before, 99.0) == ""
    assert "has expired" in why_over(peer, before, 100.0)
    assert why_over(peer, None, 1.0) != ""
    world.rotate()
    assert why_over(peer, world.identity.current(), 1.0) == ""
    world.rotate(Authority.root("cluster.local", world.now))
    assert "root" in why_over(peer, world.identity.current(), 1.0)

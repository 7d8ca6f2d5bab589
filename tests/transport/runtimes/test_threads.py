"""What blocking runtimes do for an exchange: they wait, as long as they are told to, and until the mesh is closed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import meshlib
from meshlib.engine.effects import Acquire
from meshlib.engine.outcome import Failure, Outcome
from meshlib.policy.circuit_limits import Place, Slots
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.runtimes.threads import ThreadRuntime
from tests.support.fake_clock import FakeClock


class Body:
    def __init__(self, *parts: bytes, error: BaseException | None = None) -> None:
        self.parts, self.error, self.aborted = parts, error, False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.parts
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.aborted = True

    abort = close


@pytest.fixture
def mesh():
    with meshlib.Mesh.from_resources([], clock=FakeClock()) as made:
        yield made


def test_a_sleep_goes_by_the_meshs_clock(mesh):
    before = mesh._core.clock.now
    ThreadRuntime(mesh._core).sleep(5.0)
    assert mesh._core.clock.now == before + 5.0


def test_a_slot_that_is_free_is_had_at_once_and_a_full_line_is_told(mesh):
    runtime, slots, place = ThreadRuntime(mesh._core), Slots(1, 0), Place()
    assert runtime.acquire(Acquire(slots, None, place)) is True
    assert place.slots is slots
    assert runtime.acquire(Acquire(slots, 1.0, Place())) is None


def test_whoever_waits_in_vain_leaves_the_line(mesh):
    slots = Slots(1)
    slots.try_acquire()
    assert ThreadRuntime(mesh._core).acquire(Acquire(slots, 0.0, Place())) is False
    assert (slots.pending, slots.in_use) == (0, 1)


@pytest.mark.parametrize("end", ["release", "close"])
def test_whoever_waits_is_woken_by_a_release_or_by_the_meshs_closing(mesh, end):
    runtime, slots, found = ThreadRuntime(mesh._core), Slots(1), []
    slots.try_acquire()
    thread = threading.Thread(target=lambda: found.append(runtime.acquire(Acquire(slots, None, Place()))))
    thread.start()
    while not slots.pending:
        thread.join(0.001)
    slots.release() if end == "release" else mesh.close()
    thread.join(30)
    assert found == [True]


def test_a_body_is_read_whole_and_no_further_than_it_may_be(mesh):
    runtime = ThreadRuntime(mesh._core)
    outcome = runtime.read(Outcome(status=200, body=Body(b"ab", b"c")), 3)
    assert (outcome.whole, outcome.body) == (b"abc", None)
    long = Body(b"ab", b"cd")
    refused = runtime.read(Outcome(status=200, body=long), 3)
    assert (refused.failure, long.aborted) == (Failure.PROTOCOL_ERROR, True)


def test_one_that_is_cut_is_a_failure_and_one_that_is_interrupted_is_dropped(mesh):
    runtime = ThreadRuntime(mesh._core)
    cut = runtime.read(Outcome(status=200, body=Body(b"a", error=BodyFailed(Failure.RESET, "cut"))), 9)
    assert (cut.failure, cut.detail) == (Failure.RESET, "cut")
    body = Body(b"a", error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        runtime.read(Outcome(status=200, body=body), 9)
    assert body.aborted

"""What a server may send that brings nothing, and the look at its frames that h2 needs."""

from __future__ import annotations

import pytest

from meshlib.transport.protocol import http2_frames
from meshlib.transport.protocol.http2_codec import MAX_FRAME, Violation
from meshlib.transport.protocol.http2_frames import FrameBudget, FrameGate, GoAway

SETTINGS = b"\0\0\0\4\0\0\0\0\0"
PING = b"\0\0\x08\6\0\0\0\0\0" + bytes(8)


def spent(budget: FrameBudget) -> int:
    frames = 0
    try:
        while True:
            budget.charge()
            frames += 1
    except Violation:
        return frames


def test_the_budget_is_bounded_however_much_is_earned():
    budget = FrameBudget(0.0)
    for _ in range(10_000):
        budget.opened()
        budget.data(100)
        budget.reward()
    budget.refill(1e6)
    assert spent(budget) == http2_frames.BUDGET_MOST


def test_what_is_earned_counts_from_the_next_refill_on_and_once():
    budget = FrameBudget(0.0)
    budget._left = 0.0
    budget.earned += 2.0
    budget.refill(0.0)
    budget.refill(0.0)
    budget.charge()
    budget.charge()
    with pytest.raises(Violation, match="frames that carry nothing"):
        budget.charge()


def test_time_streams_and_data_bring_some_of_it_back():
    budget = FrameBudget(0.0)
    assert spent(budget) == http2_frames.BUDGET
    assert budget.refill(2.0) == 2.0
    assert budget.refill(1.0) == 0.0  # a clock that goes back
    assert spent(budget) + 1 == pytest.approx(2 * http2_frames.BUDGET_A_SECOND, abs=1)
    budget.refill(3.0)
    before = spent(budget)
    budget.refill(4.0)
    budget.opened()
    assert spent(budget) == before + http2_frames.BUDGET_A_FRAME


def test_tiny_data_has_a_budget_of_its_own():
    budget = FrameBudget(0.0)
    for _ in range(int(http2_frames.TINY_BUDGET)):
        budget.data(1)
    with pytest.raises(Violation, match="next to nothing"):
        budget.data(1)
    budget.opened()
    for _ in range(int(http2_frames.TINY_A_STREAM) - 1):  # less the one that was too many
        budget.data(1)


def test_the_gate_passes_whole_frames_on_however_they_are_cut():
    gate = FrameGate(0.0)
    data = SETTINGS + PING * 3
    passed = b"".join(
        run for at in range(len(data)) for run in gate.feed(data[at : at + 1], 0.0) if isinstance(run, bytes)
    )
    assert passed == data


def test_the_gate_takes_goaway_out():
    goaway = b"\0\0\x08\7\0\0\0\0\0" + (5).to_bytes(4, "big") + (0).to_bytes(4, "big")
    assert list(FrameGate(0.0).feed(SETTINGS + goaway + PING, 0.0)) == [SETTINGS, GoAway(5, 0), PING]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", "speaks HTTP/1"),
        (PING, "first frame is not SETTINGS"),
        (SETTINGS + (MAX_FRAME + 1).to_bytes(3, "big") + bytes(6), "a frame of 16385 bytes"),
        (SETTINGS + b"\0\0\1\1\0\0\0\0\1x" + PING, "into the middle of a header block"),
        (SETTINGS + b"\0\0\x08\7\0\0\0\0\1" + bytes(8), "GOAWAY on a stream"),
        (SETTINGS + b"\0\0\x04\7\0\0\0\0\0" + bytes(4), "GOAWAY that is too short"),
    ],
)
def test_the_gate_refuses(data, problem):
    with pytest.raises(Violation, match=problem):
        list(FrameGate(0.0).feed(data, 0.0))


def test_the_length_of_a_frame_is_looked_at_before_it_is_collected():
    gate = FrameGate(0.0)
    list(gate.feed(SETTINGS, 0.0))
    with pytest.raises(Violation):
        list(gate.feed((2**24 - 1).to_bytes(3, "big") + bytes(6), 0.0))


def test_others_get_their_turn_after_so_many_frames():
    gate = FrameGate(0.0)
    first = b"".join(
        run for run in gate.feed(SETTINGS + PING * http2_frames.FRAMES_AT_ONCE, 0.0) if isinstance(run, bytes)
    )
    assert gate.behind
    assert len(first) == len(SETTINGS) + len(PING) * (http2_frames.FRAMES_AT_ONCE - 1)
    assert list(gate.feed(b"", 0.0)) == [PING]
    assert not gate.behind

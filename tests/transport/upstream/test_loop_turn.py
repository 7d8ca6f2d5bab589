"""What is asked for during a turn of a loop is done at its end: all of it, once, in its order, by one handle of the loop."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.transport.upstream.loop_turn import MOST, Turn


class Loop:
    """Ends its turn when the test says so."""

    def __init__(self) -> None:
        self.soon: list[Any] = []
        self.wrong: list[str] = []

    def call_soon(self, function: Any) -> None:
        self.soon.append(function)

    def call_exception_handler(self, said: dict[str, Any]) -> None:
        self.wrong.append(str(said["exception"]))

    def end(self) -> None:
        due, self.soon = self.soon, []
        for function in due:
            function()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def turn(loop: Loop) -> Turn:
    return Turn(loop)  # type: ignore[arg-type]


def test_all_are_called_at_the_end_in_their_order_by_one_handle(loop: Loop, turn: Turn) -> None:
    called: list[int] = []
    for round_ in range(2):
        for each in range(3):
            turn.call_soon(lambda each=each: called.append(each))
        assert (len(loop.soon), called) == (1, [0, 1, 2] * round_)
        loop.end()
    assert (called, loop.soon) == ([0, 1, 2] * 2, [])


def test_what_is_asked_for_by_one_of_them_waits_for_the_next_end(loop: Loop, turn: Turn) -> None:
    called: list[str] = []
    turn.call_soon(lambda: turn.call_soon(lambda: called.append("second")))
    loop.end()
    assert called == []
    loop.end()
    assert called == ["second"]


def test_who_waits_with_many_others_does_not_wait_for_the_end(loop: Loop, turn: Turn) -> None:
    called: list[int] = []
    for each in range(MOST + 1):
        turn.call_soon(lambda each=each: called.append(each))
    assert called == list(range(MOST))
    loop.end()
    assert called == list(range(MOST + 1))


def test_one_that_fails_is_told_to_the_loop_and_the_others_are_called(loop: Loop, turn: Turn) -> None:
    called: list[str] = []

    def fails() -> None:
        raise RuntimeError("no")

    for each in (fails, lambda: called.append("a"), fails, lambda: called.append("b")):
        turn.call_soon(each)
    loop.end()
    assert (called, loop.wrong) == (["a", "b"], ["no", "no"])

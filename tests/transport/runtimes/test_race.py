"""Races: alarms that ring, and every way a race can end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from meshlib.alarms import Alarms
from meshlib.engine.effects import Race
from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.runtimes.race import ThreadRace, race_on_loop


class Body:
    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Try:
    """Stands for a ``Send``: ends when told to, or at once."""

    def __init__(self, outcome: Any, waits: bool = True) -> None:
        self.outcome = outcome
        self.go = threading.Event()
        self.broken_off = threading.Event()
        self.when_begun: Callable[[], None] = lambda: None
        if not waits:
            self.go.set()

    def end(self) -> Any:
        self.go.wait(60)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Tries:
    def __init__(self, *more: Try) -> None:
        self.more = list(more)
        self.losers: list[Try] = []
        self.asked = 0
        self.when_asked: Callable[[], None] = lambda: None
        self.when_lost: Callable[[], None] = lambda: None

    def another(self) -> Try | None:
        self.asked += 1
        self.when_asked()
        return self.more.pop(0) if self.more else None

    @staticmethod
    def wins(outcome: Outcome) -> bool:
        return outcome.failure is None and outcome.status < 500

    def lost(self, one: Try) -> None:
        assert one not in self.losers, "told twice"
        self.losers.append(one)
        self.when_lost()


def answer(status: int = 200) -> Outcome:
    return Outcome(status=status, body=Body())


def in_threads(first: Try, tries: Tries, delay: float = 0.01) -> tuple[Try, Outcome]:
    def send(one: Any, watch: Any) -> Outcome:
        watch(lambda: (one.broken_off.set(), one.go.set()))
        one.when_begun()
        found: Outcome = one.end()
        return found

    made: Any = ThreadRace(Race(first, delay, tries), send, Alarms()).run()  # type: ignore[arg-type]
    return made


def on_loop(first: Try, tries: Tries, delay: float = 0.01) -> tuple[Try, Outcome]:
    async def send(one: Any) -> Outcome:
        one.when_begun()
        try:
            while not one.go.is_set():
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            one.broken_off.set()
            raise
        found: Outcome = one.end()
        return found

    made: Any = asyncio.run(race_on_loop(Race(first, delay, tries), send, Alarms()))  # type: ignore[arg-type]
    return made


@pytest.fixture(params=[in_threads, on_loop], ids=["threads", "asyncio"])
def race(request):
    return request.param


def test_a_quick_first_try_has_no_company(race):
    first, tries = Try(answer(), waits=False), Tries(Try(answer()))
    assert race(first, tries, 5.0) == (first, first.outcome)
    assert (tries.asked, tries.losers) == (0, [])


def test_the_second_wins_and_the_first_is_broken_off(race):
    first, second = Try(answer()), Try(answer(), waits=False)
    tries = Tries(second)
    assert race(first, tries)[0] is second
    assert first.broken_off.wait(30)
    assert tries.losers == [first]


def test_an_error_waits_for_the_others(race):
    first, second = Try(answer(500)), Try(answer())
    tries = Tries(second)
    tries.when_asked, tries.when_lost = first.go.set, second.go.set
    winner, outcome = race(first, tries)
    assert outcome.status == 200
    assert winner is second


def test_when_all_fail_the_last_one_counts_and_the_others_bodies_are_dropped(race):
    first, second = Try(answer(500)), Try(Outcome(Failure.RESET, "reset"))
    tries = Tries(second)
    tries.when_asked, tries.when_lost = first.go.set, second.go.set
    winner, outcome = race(first, tries)
    assert (winner, outcome.failure) == (second, Failure.RESET)
    assert (tries.losers, first.outcome.body.aborted) == ([first], True)


def test_without_another_try_the_first_goes_on_alone(race):
    first, tries = Try(answer()), Tries()
    tries.when_asked = first.go.set
    assert race(first, tries)[0] is first
    assert tries.asked == 1


def test_what_a_first_try_raises_is_raised_and_the_others_end(race):
    first, second = Try(RuntimeError("broken")), Try(answer())
    tries = Tries(second)
    second.when_begun = first.go.set
    with pytest.raises(RuntimeError, match="broken"):
        race(first, tries)
    assert second.broken_off.wait(30)


def test_a_loser_that_answers_too_late_has_its_body_dropped():
    first, second = Try(answer()), Try(answer(), waits=False)
    tries = Tries(second)

    def send(one: Any, watch: Any) -> Outcome:
        found: Outcome = one.end()  # cannot be broken off: it never said how
        return found

    done, lost = threading.Event(), threading.Event()
    tries.when_lost = lost.set

    def run() -> None:
        ThreadRace(Race(first, 0.01, tries), send, Alarms()).run()  # type: ignore[arg-type]
        done.set()

    threading.Thread(target=run, daemon=True).start()
    assert lost.wait(30)
    assert not done.is_set()  # the caller's own thread makes the first try: it waits for it
    first.go.set()
    assert done.wait(30)
    assert first.outcome.body.aborted
    assert tries.losers == [first]


async def test_a_try_begins_in_its_own_task_so_that_one_cancelled_before_has_begun_nothing():
    begun: list[Any] = []

    def send(attempt: Any) -> Any:
        begun.append(attempt)  # as over HTTP/2, where a stream is opened before anything is awaited
        return asyncio.sleep(60)

    first: Any = Try(None)
    race = asyncio.create_task(race_on_loop(Race(first, 1.0, Tries()), send, Alarms()))
    await asyncio.sleep(0)
    assert begun == []
    await asyncio.sleep(0)
    assert begun == [first]
    race.cancel()
    await asyncio.gather(race, return_exceptions=True)

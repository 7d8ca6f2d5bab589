"""Requests that were met before: few strangers' are kept, and where none comes again nobody looks for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from meshlib.transport.runtimes import requests_met
from meshlib.transport.runtimes.requests_met import (
    FEW_MISSES,
    LONGEST,
    MOST_BYTES,
    MOST_REQUESTS,
    PAUSE,
    SELDOM,
    USELESS,
    RequestsMet,
)


@pytest.fixture(autouse=True, scope="module")
def shortcuts() -> Iterator[None]:
    """Also where MESHLIB_PLAIN=1 is set for the tests: this is about what it turns off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests_met, "PLAIN", False)
        yield


class Kept:
    def __init__(self, key_size: int = 100, met: bool = False) -> None:
        self.key_size = key_size
        self.met = met


def found(made: RequestsMet[Kept], key: object) -> Kept | None:
    assert made.of is not None
    return made.of(key)


def filled(met: bool = False) -> RequestsMet[Kept]:
    made: RequestsMet[Kept] = RequestsMet()
    for n in range(MOST_REQUESTS):
        made.keep(n, Kept(met=met))
    return made


def test_what_was_kept_is_found_by_its_key_alone():
    made: RequestsMet[Kept] = RequestsMet()
    one = Kept()
    made.keep(("GET", b"/a"), one)
    assert found(made, ("GET", b"/a")) is one
    assert found(made, ("GET", b"/b")) is None


def test_after_the_first_few_misses_one_in_so_many_is_kept():
    made: RequestsMet[Kept] = RequestsMet()
    wanted = [made.wants() for _ in range(FEW_MISSES + 10 * SELDOM)]
    assert all(wanted[:FEW_MISSES])
    assert sum(wanted[FEW_MISSES:]) == 10


def test_the_oldest_is_given_up_when_there_are_too_many_or_they_are_too_large():
    made = filled()
    made.keep("new", Kept())
    assert len(made) == MOST_REQUESTS
    assert [found(made, key) is None for key in (0, 1, "new")] == [True, False, False]
    made = RequestsMet()
    for n in range(2 * MOST_BYTES // LONGEST):
        made.keep(n, Kept(LONGEST, met=True))
    assert len(made) == MOST_BYTES // LONGEST
    made.keep("too long", Kept(LONGEST + 1))
    assert found(made, "too long") is None


def test_one_that_is_kept_again_counts_once():
    made: RequestsMet[Kept] = RequestsMet()
    for _ in range(10 * MOST_BYTES // LONGEST):
        made.keep("same", Kept(LONGEST))
    assert (len(made), made._size) == (1, LONGEST)


def test_where_none_comes_again_nobody_looks_for_a_while():
    made = filled()
    for n in range(USELESS):
        assert found(made, MOST_REQUESTS - 1) is not None
        made.keep(f"new {n}", Kept())
    assert not made.wants()
    for _ in range(PAUSE):
        assert made.of is None
        made.passed()
    assert found(made, MOST_REQUESTS - 1) is not None
    made.passed()  # one that began during the pause
    assert made.of is not None


def test_where_they_come_again_everybody_looks():
    made = filled(met=True)
    for n in range(2 * USELESS):
        made.keep(f"new {n}", Kept(met=n % USELESS == 0))
    assert found(made, "new 1") is not None


def test_a_lock_that_somebody_else_holds_is_not_waited_for():
    made: RequestsMet[Kept] = RequestsMet()
    made._lock = threading.Lock()
    made._lock.acquire()  # as in a child that was forked meanwhile
    made.keep("a", Kept())
    assert found(made, "a") is None


def test_plain_means_that_nothing_is_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(requests_met, "PLAIN", True)
    made: RequestsMet[Kept] = RequestsMet()
    assert not made.wants()
    made.keep("a", Kept())
    made.passed()
    assert made.of is None


def test_it_shows_nobodys_headers():
    made: RequestsMet[Kept] = RequestsMet()
    made.keep((b"authorization", b"secret"), Kept())
    assert repr(made) == "<RequestsMet 1>"

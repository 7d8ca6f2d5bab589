"""Overload: what is turned away, why, and until when."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshlib.proxy.overload import LOOK, Overload, ResidentMemory
from meshlib.testing import FakeClock


class Probes:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.bytes = 0
        self.late = 0.0
        self.looks = 0

    def memory(self) -> int:
        self.looks += 1
        return self.bytes

    def lag(self) -> float:
        return self.late

    def overload(self, **limits: object) -> Overload:
        return Overload(self.clock.monotonic, self.memory, self.lag, **limits)  # type: ignore[arg-type]


@pytest.fixture
def probes() -> Probes:
    return Probes()


def test_a_connection_beyond_the_limit_is_not_taken_and_counted(probes: Probes) -> None:
    overload = probes.overload(most_connections=2)
    assert overload.takes_connection(1)
    assert not overload.takes_connection(2)
    assert overload.shed == {"connections": 1, "requests": 0, "memory": 0, "lag": 0}
    assert probes.overload().takes_connection(10**9)


def test_a_request_beyond_the_limit_is_turned_away_until_another_one_is_over(probes: Probes) -> None:
    overload = probes.overload(most_requests=2)
    overload.under_way = 2
    assert (overload.counts_requests, overload.refuses_request()) == (True, "requests")
    overload.under_way = 1
    assert overload.refuses_request() == ""
    assert (overload.shed["requests"], probes.overload().counts_requests) == (1, False)


def test_without_limits_nobody_is_asked(probes: Probes) -> None:
    probes.bytes, probes.late = 10**12, 100.0
    assert probes.overload().refuses_request() == ""
    assert probes.looks == 0


def test_requests_are_turned_away_while_memory_is_beyond_its_limit(probes: Probes) -> None:
    overload = probes.overload(most_memory=1000)
    probes.bytes = 1000
    assert overload.refuses_request() == ""
    probes.bytes = 1001
    probes.clock.advance(LOOK)
    assert overload.refuses_request() == "memory"
    probes.bytes = 960
    probes.clock.advance(LOOK)
    assert overload.refuses_request() == "memory", "it is let in again below 95 %"
    probes.bytes = 950
    probes.clock.advance(LOOK)
    assert overload.refuses_request() == ""
    assert overload.shed["memory"] == 2


def test_requests_are_turned_away_while_the_loop_is_late(probes: Probes) -> None:
    overload = probes.overload(most_lag=0.5)
    probes.late = 0.6
    assert overload.refuses_request() == "lag"
    assert overload.why == "lag"
    probes.late = 0.1
    probes.clock.advance(LOOK)
    assert overload.refuses_request() == ""


def test_probes_are_not_asked_for_every_request(probes: Probes) -> None:
    overload = probes.overload(most_memory=1000)
    for _ in range(1000):
        overload.refuses_request()
    assert probes.looks == 1


def test_a_clock_that_jumps_back_looks_again() -> None:
    now = [1000.0]
    memory = [2000]
    overload = Overload(lambda: now[0], lambda: memory[0], lambda: 0.0, most_memory=1000)
    assert overload.refuses_request() == "memory"
    now[0], memory[0] = 0.0, 1
    assert overload.refuses_request() == ""


def test_resident_memory_is_the_second_number_of_statm_in_pages(tmp_path: Path) -> None:
    (tmp_path / "statm").write_text("1000 25 10 1 0 100 0\n")
    memory = ResidentMemory(str(tmp_path / "statm"), 4096)
    assert memory() == 25 * 4096
    memory.close()
    assert memory() == 0
    assert ResidentMemory(str(tmp_path / "none"), 4096)() == 0


def test_the_memory_of_this_process_is_more_than_an_interpreter_needs() -> None:
    memory = ResidentMemory()
    assert memory() > 5_000_000
    memory.close()

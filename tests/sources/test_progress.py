"""Long loads say so on a terminal, and nowhere else."""

from __future__ import annotations

import io

import pytest

from meshlib.pace import take_turns
from meshlib.progress import shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("meshlib.progress.machine_seconds", lambda: now[0])
    return now


def test_work_that_takes_longer_than_a_second_is_shown_and_the_line_taken_back(seconds: list[float]) -> None:
    terminal = Terminal()
    with shown("loading mesh/", terminal):
        take_turns()
        assert terminal.getvalue() == ""
        seconds[0] = 3.0
        take_turns()
        assert terminal.getvalue() == "\rloading mesh/ ... 3 s"
    assert terminal.getvalue().endswith("\r" + " " * len("loading mesh/ ... 3 s") + "\r")


def test_quick_work_and_pipes_show_nothing(seconds: list[float]) -> None:
    terminal, pipe = Terminal(), io.StringIO()
    with shown("loading mesh/", terminal):
        take_turns()
    with shown("loading mesh/", pipe):
        seconds[0] = 3.0
        take_turns()
    assert (terminal.getvalue(), pipe.getvalue()) == ("", "")

"""A mesh has its state written where prometheus_client writes its values, and nowhere else."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from meshlib.alarms import Alarm, Alarms
from meshlib.mesh.state_files import StateFiles
from meshlib.telemetry.mesh_metrics import state_collector


class Written:
    def __init__(self) -> None:
        self.done: list[str] = []

    def write(self) -> None:
        self.done.append("write")

    def after_fork(self) -> None:
        self.done.append("fork")


@pytest.fixture
def files(monkeypatch):
    monkeypatch.setattr("meshlib.mesh.state_files.written_elsewhere", lambda: True)
    written = Written()
    monkeypatch.setattr("meshlib.telemetry.written_state.writer_of", lambda collector: written)
    return written


def test_without_files_nothing_is_written_and_no_alarm_set():
    alarms = Alarms()
    made = StateFiles(state_collector(CollectorRegistry()), alarms)
    made.start()
    made.write()
    made.close()
    assert not alarms._due


class Clock:
    """What rings is rung by hand."""

    closed = False

    def __init__(self) -> None:
        self.due: list[tuple[float, Alarm]] = []

    def after(self, seconds, ring):
        self.due.append((seconds, Alarm(ring)))
        return self.due[-1][1]

    def ring(self):
        _, alarm = self.due.pop(0)
        if alarm.ring is not None:
            alarm.ring()


def test_it_writes_at_once_then_by_its_alarm_then_when_closed(files):
    alarms = Clock()
    made = StateFiles(state_collector(CollectorRegistry()), alarms)
    made.start()
    assert files.done == ["write"]
    assert [seconds for seconds, _ in alarms.due] == [10.0]
    alarms.ring()
    assert files.done == ["write"] * 2
    made.close()
    assert files.done == ["write"] * 3
    alarms.ring()
    assert files.done == ["write"] * 3, "its alarm is cancelled"


def test_a_child_begins_where_its_parent_stood(files):
    made = StateFiles(state_collector(CollectorRegistry()), Clock())
    made.start()
    made.after_fork()
    assert files.done == ["write", "fork", "write"]
    made.close()
    made.after_fork()
    assert files.done == ["write", "fork", "write", "write"], "a closed one has nothing to begin"


def test_an_alarm_keeps_no_mesh_that_is_dropped(files):
    alarms = Clock()
    made = StateFiles(state_collector(CollectorRegistry()), alarms)
    made.start()
    del made
    alarms.ring()
    assert files.done == ["write"]

"""A watched exchange: its end is told once, whichever way it comes."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from prometheus_client import CollectorRegistry

from meshlib.policy.telemetry_settings import TracingSettings
from meshlib.telemetry.tcp_series import TcpSeries
from meshlib.telemetry.watcher import Watcher


class Told:
    """Metrics and spans that note what they are told; ``error`` is raised by both."""

    unrecorded = 0
    error: Exception | None = None

    def __init__(self) -> None:
        self.calls: list[str] = []

    def _tell(self, what: str) -> None:
        self.calls.append(what)
        if self.error is not None:
            raise self.error

    def finished(self, call: str, _now: object) -> None:
        self._tell(f"{call} finished")

    def traced(self, call: str, _now: float, _trace: object) -> None:
        self._tell(f"{call} traced")

    def started(self, call: str) -> None:
        self._tell(f"{call} started")

    def late(self, call: str, _span: object, _at: float) -> None:
        self._tell(f"{call} late")

    def connection(self, call: str, _now: float) -> TcpSeries:
        raise NotImplementedError(call)

    def reconfigured(self, settings: TracingSettings) -> None: ...
    def after_fork(self) -> None: ...


def watcher(told: Told) -> Watcher[str, None]:
    return Watcher(CollectorRegistry(), lambda _: told, told, lambda: 1.0)


def exchange(error: BaseException | None = None) -> Generator[str, str, None]:
    yield "sent"
    if error is not None:
        raise error


def test_the_end_of_an_exchange_is_told_once() -> None:
    told = Told()
    assert list(watcher(told).watch("a", exchange())) == ["sent"]
    assert told.calls == ["a started", "a finished"]


def test_so_is_an_error_which_goes_on() -> None:
    told = Told()
    with pytest.raises(ValueError, match="broken"):
        list(watcher(told).watch("a", exchange(ValueError("broken"))))
    assert told.calls == ["a started", "a finished"]


def test_one_that_is_dropped_is_noted_and_told_at_the_next_call() -> None:
    told = Told()
    watching = watcher(told)
    dropped = watching.watch("a", exchange())
    next(dropped)
    dropped.close()
    assert told.calls == ["a started"], "it may be the garbage collector's doing"
    list(watching.watch("b", exchange()))
    assert told.calls == ["a started", "a finished", "b started", "b finished"]


def test_whatever_telemetry_raises_the_call_goes_on_and_it_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    told.error = RuntimeError("the registry is broken")
    watching = watcher(told)
    assert list(watching.watch("a", exchange())) == ["sent"]
    assert watching.failures == 2
    assert caplog.text.count("could not be recorded") == 1, "once in the log, then counted"


def test_in_a_forked_child_what_the_parent_has_noted_is_the_parents() -> None:
    told = Told()
    watching = watcher(told)
    watching.broken("a", None)
    watching.after_fork()
    watching.catch_up()
    assert told.calls == []

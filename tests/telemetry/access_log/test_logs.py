"""Logs at work: formats, caps, filters, what a reload changes, and what goes wrong."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from meshlib.compiler.access_log.format import DEFAULT
from meshlib.policy.telemetry_settings import AccessLog
from meshlib.policy.token_bucket import Rate
from meshlib.telemetry.access_log import alike
from meshlib.telemetry.access_log.alike import none_closer
from meshlib.telemetry.access_log.logs import AccessLogs, LogOptions, line_of
from meshlib.telemetry.access_log.served import MET, OTHERS, ServedEntry
from meshlib.transport.asgi.straight import Straight
from tests.support.access_log import MadeUp
from tests.support.fake_clock import FakeClock


def entry_of(call: MadeUp, ended: float, today: float, _traced: object, _cut: bool) -> MadeUp:
    call.ended, call.wall = ended, today
    return call


def logs(options: LogOptions | None = None, clock: FakeClock | None = None, **more: Any) -> AccessLogs[MadeUp]:
    return AccessLogs(entry_of, clock or FakeClock(), options or LogOptions(), **more)


def test_a_text_gets_its_line_end_and_nothing_said_is_istios_format() -> None:
    assert line_of(AccessLog("", text="%PROTOCOL%"), lambda: 0.0)(MadeUp()) == "HTTP/1.1\n"
    assert line_of(AccessLog("", text="%PROTOCOL%\n"), lambda: 0.0)(MadeUp()) == "HTTP/1.1\n"
    assert line_of(AccessLog(""), lambda: 0.0)(MadeUp()).count('"') == 14
    assert line_of(AccessLog("", text=DEFAULT), lambda: 0.0)(MadeUp()).endswith('"10.1.2.3:9080"\n')
    found = json.loads(line_of(AccessLog("", labels={}), lambda: 0.0)(MadeUp()))
    assert (found["method"], found["response_code"], len(found)) == ("GET", 200, 24)
    assert json.loads(line_of(AccessLog("", labels={"a": "%PROTOCOL%"}), lambda: 0.0)(MadeUp())) == {"a": "HTTP/1.1"}


def test_the_program_may_have_several_sinks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [str(tmp_path / name) for name in "ab"]
    own = logging.getLogger("test.access.own")
    with caplog.at_level(logging.INFO, "test.access.own"):
        made = logs(LogOptions(tuple(paths), (own,), text="%PATH%"))
        made.write(MadeUp("/x"), 1000.0, None)
        made.close(30)
    assert [Path(path).read_text() for path in paths] == ["/x\n", "/x\n"]
    assert caplog.messages == ["/x"]


def test_a_cap_counts_what_is_too_much(tmp_path: Path) -> None:
    clock = FakeClock()
    made = logs(LogOptions((str(tmp_path / "a"),), text="%PATH%", rate=Rate(10, 1.0, 10)), clock)
    for _ in range(25):
        made.write(MadeUp(), clock.now, None)
    clock.advance(0.5)
    for _ in range(25):
        made.write(MadeUp(), clock.now, None)
    assert made.flush(30)
    (status,) = made.status()
    assert (status["written"], status["capped"]) == (15, 35)
    made.close(30)


def test_a_reload_keeps_what_goes_on_and_closes_what_nobody_wants(tmp_path: Path) -> None:
    a, b = (AccessLog(name, path=str(tmp_path / name), text="%PATH%") for name in "ab")
    made = logs()
    assert not made.active
    made.take((a,))
    made.write(MadeUp("/1"), 0.0, None)
    kept = made._logs[0]
    made.take((b, a))
    assert made._logs[1] is kept
    made.write(MadeUp("/2"), 0.0, None)
    made.take((b,))
    made.write(MadeUp("/3"), 0.0, None)
    made.take(())
    assert not made.active
    made.write(MadeUp("/4"), 0.0, None)
    kept._writer.flush(30)
    logs_of_b = tmp_path / "b"
    from meshlib.telemetry.access_log.writer import flush_all

    flush_all(30)
    assert (tmp_path / "a").read_text() == "/1\n/2\n"
    assert logs_of_b.read_text() == "/2\n/3\n"


def test_a_log_that_cannot_be_made_is_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = AccessLog("good", path=str(tmp_path / "a"), text="%PATH%")
    bad = AccessLog("bad", path=str(tmp_path / "b"), text="%NO%", where="mesh.yaml:7:3")
    made = logs()
    with caplog.at_level(logging.ERROR, "meshlib.access_log"):
        made.take((bad, good))
    made.write(MadeUp("/1"), 0.0, None)
    made.close(30)
    assert (tmp_path / "a").read_text() == "/1\n"
    assert not (tmp_path / "b").exists()
    assert caplog.messages[0].startswith("mesh.yaml:7:3: this access log is not written: unknown operator %NO%")


def test_a_filter_chooses_and_its_errors_are_counted(tmp_path: Path) -> None:
    def filters(settings: AccessLog) -> Any:
        if not settings.expression:
            return None
        return lambda entry: 1 / (entry.status - 500) < 0 or settings.expression == "all"

    path = tmp_path / "a"
    made = logs(filters=filters)
    made.take((AccessLog("a", path=str(path), text="%RESPONSE_CODE%", expression="below 500"),))
    for status in (200, 500, 503):
        made.write(MadeUp(status=status), 0.0, None)
    assert made.flush(30)
    assert made.status()[0]["filter_errors"] == 1
    made.close(30)
    assert path.read_text() == "200\n"


def test_the_time_of_day_is_that_of_the_beginning(tmp_path: Path) -> None:
    from meshlib.telemetry.access_log.entry import Entry

    seen: list[tuple[float, float]] = []

    def entry(call: MadeUp, ended: float, today: float, _traced: object, _cut: bool) -> Entry:
        seen.append((ended, today))
        return call

    clock = FakeClock(1000.0)
    made = AccessLogs(entry, clock, LogOptions((str(tmp_path / "a"),), text="x%PATH%"))
    made.write(MadeUp(), 990.0, None)  # noted by the garbage collector, recorded ten seconds later
    made.close(30)
    assert seen == [(990.0, clock.time() - 10.0)]


def test_expressions_are_those_of_every_format(tmp_path: Path) -> None:
    pytest.importorskip("cel_expr_python")
    text = '%CEL(request.path)% %COALESCE({"operators": [{"command": "CEL", "param": "request.id"}]})%'
    logs: AccessLogs[Any] = AccessLogs(
        lambda *_: MadeUp(), FakeClock(), LogOptions(files=(str(tmp_path / "a"),), text=text)
    )
    logs.take((AccessLog("p", path=str(tmp_path / "b"), labels={"a": {"b": "%TYPED_CEL(response.code)%"}}),))
    assert logs.expressions() == ["request.path", "request.id", "response.code"]
    logs.close(1.0)


def test_a_reload_while_a_door_is_made_takes_that_door_away(tmp_path: Path) -> None:
    """It would write to a log that nobody wants any more."""
    made = logs()
    made.take([AccessLog("old", path=str(tmp_path / "old"))])

    class Kind:
        @staticmethod
        def lines() -> object:
            made.take([AccessLog("new", path=str(tmp_path / "new"))])

    made.door(Kind)
    assert Kind not in made.doors
    made.close(1.0)


def test_a_closed_log_has_a_door_that_writes_nothing() -> None:
    made = logs()
    made.close(1.0)
    assert made.door(object) is none_closer


def test_what_others_try_first_stays_while_a_door_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "PLAIN", False)
    made = AccessLogs(ServedEntry, FakeClock(), LogOptions((str(tmp_path / "a"),)), sides=(MET, OTHERS))
    (log,) = made._logs
    short, tried = log.short, []

    def assign(each: object, name: str, value: object) -> None:
        if name == "short":
            tried.append(value)
        object.__setattr__(each, name, value)

    monkeypatch.setattr(type(log), "__setattr__", assign, raising=False)
    door = made.door(Straight)
    assert door not in (short, none_closer)
    assert (log.short, made.door(Straight), tried) == (short, door, [])
    made.close(1.0)

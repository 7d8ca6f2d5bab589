"""Times in Envoy's formats."""

from __future__ import annotations

import pytest

from meshlib.telemetry.access_log.start_time import ISO, MOST_TIMES, Milliseconds, formatter

AT = 1_460_736_000.25


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (ISO, "2016-04-15T16:00:00.250Z"),
        ("%s", "1460736000"),
        ("%s.%3f", "1460736000.250"),
        ("%s.%6f", "1460736000.250000"),
        ("%s.%9f|%f", "1460736000.250000000|250000000"),
        ("%E3S %E*S", "00.250 00.250000000"),
        ("%Y/%m/%dT%H:%M:%S%z", "2016/04/15T16:00:00+0000"),
        ("%Ez", "+00:00"),
        ("100%% %j", "100% 106"),
        ("", ""),
    ],
)
def test_a_format(form: str, expected: str) -> None:
    assert formatter(form)(AT) == expected


def test_the_next_second_is_another_one() -> None:
    show = formatter(ISO)
    assert [show(AT), show(AT + 0.749), show(AT + 0.75), show(AT)] == [
        "2016-04-15T16:00:00.250Z",
        "2016-04-15T16:00:00.999Z",
        "2016-04-15T16:00:01.000Z",
        "2016-04-15T16:00:00.250Z",
    ]
    seconds = formatter("%S")
    assert [seconds(AT), seconds(AT + 1)] == ["00", "01"]


def test_milliseconds_that_are_remembered_are_bounded() -> None:
    show = formatter(ISO)
    assert isinstance(show, Milliseconds)
    shown = [show(AT + n / 1e3) for n in range(MOST_TIMES + 10)]
    assert [shown[0], shown[-1]] == ["2016-04-15T16:00:00.250Z", "2016-04-15T16:00:00.515Z"]
    assert len(shown) == len(set(shown)) > MOST_TIMES >= len(show.kept)


def test_local_time_has_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "XXX-02:30")
    time.tzset()
    try:
        assert formatter("%H:%M %z %Ez", local=True)(AT) == "18:30 +0230 +02:30"
        assert formatter("%H:%M")(AT) == "16:00"
    finally:
        monkeypatch.undo()
        time.tzset()

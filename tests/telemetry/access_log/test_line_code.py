"""The function that makes a line in one go: a line is the same as bytes and as text, with whatever is not there."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest

from meshlib.compiler.access_log.format import Operator, parse, parse_json
from meshlib.engine.wanted_headers import WantedHeaders
from meshlib.telemetry.access_log import alike
from meshlib.telemetry.access_log.alike import json_alike, request_reading, text_alike
from meshlib.telemetry.access_log.line_code import Kind, Reading, Side
from tests.support.access_log import MadeUp


class Asked:
    """A call with these headers; None of one that is not there."""

    def __init__(self, *texts: str | None) -> None:
        self.texts = texts

    def values(self, wanted: WantedHeaders) -> tuple[Any, ...]:
        """As ``Side.headers`` has them."""
        named = dict(zip(("x-a", "x-b", "host"), self.texts, strict=True))
        return wanted.of_texts(named.get(name) for name in wanted.names)


def reading(operator: Operator) -> Reading | None:
    """Of such a call."""
    if operator.name == "BYTES_SENT":
        return Reading("1234", None, Kind.NUMBER)
    if operator.name == "BYTES_RECEIVED":
        return Reading("call", None, Kind.NUMBER)
    if operator.name == "UPSTREAM_HOST":
        return Reading("None", None, Kind.SHORT)
    return request_reading(operator, "b'/t'", "{0}")


def lines(raw: bool, form: str | dict[str, object], calls: Sequence[object]) -> list[str]:
    """Those of the calls, as a sink would have them."""
    side: Side[Any] = Side(
        "    key, started = 1, 0.0\n", reading, "call.values(wanted)", {}, lambda *_: MadeUp(), raw=raw
    )
    put: list[Any] = []
    make: Any = text_alike if isinstance(form, str) else json_alike
    parsed: Any = parse(form) if isinstance(form, str) else parse_json(form)
    made = make(parsed, side, lambda line, _: put.append(line), lambda: 1e9)
    for call in calls:
        assert made.write(call, 0.0015, None)
    waiting = [each[0](each) if type(each) is tuple else each for each in put]
    return [each.decode() if type(each) is bytes else each for each in waiting]


CALLS = [Asked(*texts) for texts in itertools.product((None, "", "1", 'a"b'), (None, "", "2"), (None, "h"))]


def shown(text: str | None) -> str:
    """A value in a line of text."""
    return "-" if text is None else text.replace('"', '\\"')


@pytest.mark.parametrize("raw", [True, False])
def test_what_is_not_there_is_said_in_each_mixture(raw: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "PLAIN", False)
    form = "%REQ(X-A)% 100%% %REQ(X-B)% %REQ(X-A?X-B)% %REQ(X-B):1% %BYTES_SENT% %UPSTREAM_HOST% %REQ(HOST)% %PATH%"
    expected = []
    for a, b, host in (call.texts for call in CALLS):
        parts = shown(a), "100%", shown(b), shown(b if a is None else a), shown(b), "1234", "-", shown(host), "/t"
        expected.append(" ".join(parts))
    assert lines(raw, form, CALLS) == expected


@pytest.mark.parametrize("raw", [True, False])
def test_numbers_and_times_stand_between_what_is_around_them(raw: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small numbers are kept with that, and times: what is met again is the same."""
    monkeypatch.setattr(alike, "PLAIN", False)
    numbers = [0, 7, 999, 1000, 123456, -3] * 2
    form = '\u00e9%BYTES_RECEIVED%%DURATION%\\%BYTES_RECEIVED%"%START_TIME(%s.%3f)%%BYTES_RECEIVED%%%'
    assert lines(raw, form, numbers) == [f'\u00e9{n}1\\{n}"999999999.998{n}%' for n in numbers]
    shape: dict[str, object] = {"\u00e9": ["%BYTES_RECEIVED%", {"%": "%BYTES_RECEIVED%"}], "t": "%START_TIME(%s.%3f)%"}
    assert lines(raw, shape, numbers) == [f'{{"\\u00e9":[{n},{{"%":{n}}}],"t":"999999999.998"}}\n' for n in numbers]


@pytest.mark.parametrize("raw", [True, False])
def test_in_json_it_is_null(raw: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "PLAIN", False)
    form: dict[str, object] = {
        "a": "%REQ(X-A)%",
        "%": ["%REQ(X-B)%", "%DURATION%"],
        "u": "%UPSTREAM_HOST%",
        "h": "%REQ(HOST)%",
    }
    assert [json.loads(line) for line in lines(raw, form, CALLS)] == [
        {"a": a, "%": [b, 1], "u": None, "h": host} for a, b, host in (call.texts for call in CALLS)
    ]


@pytest.mark.parametrize("raw", [True, False])
def test_a_format_of_a_time_with_quotes_stays_in_its_own(raw: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "PLAIN", False)
    for at in ('%H"%S.%3f', '%H"%S'):
        (line,) = lines(raw, {"at": f"%START_TIME({at})%"}, [Asked("1", "2", "h")])
        assert json.loads(line)["at"][2] == '"'

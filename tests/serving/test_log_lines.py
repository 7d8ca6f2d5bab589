"""uvicorn's lines show neither queries nor, for debugging, headers."""

from __future__ import annotations

import logging

import pytest

from meshlib.serving.log_lines import LOGGERS, keep_secrets, shown


def record(level: int, message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("uvicorn.access", level, "", 1, message, arguments, None)


def test_a_target_loses_its_query() -> None:
    line = record(
        logging.INFO, '%s - "%s %s HTTP/%s" %d', "10.0.0.1:5", "GET", "/orders?access_token=s3cret", "1.1", 200
    )
    assert shown(line)
    assert line.getMessage() == '10.0.0.1:5 - "GET /orders?... HTTP/1.1" 200'


@pytest.mark.parametrize("arguments", [("/orders", 200), ("a?b", 200), ()])
def test_other_lines_stay_as_they_are(arguments: tuple[object, ...]) -> None:
    line = record(logging.ERROR, " ".join(["%s"] * len(arguments)), *arguments)
    assert shown(line)
    assert line.args == arguments


def test_lines_for_debugging_are_not_shown() -> None:
    assert not shown(record(logging.DEBUG, "< %s: %s", "authorization", "Bearer s3cret"))


def test_both_loggers_have_it_once_however_often_it_is_asked_for() -> None:
    keep_secrets()
    keep_secrets()
    assert [logging.getLogger(name).filters.count(shown) for name in LOGGERS] == [1, 1]

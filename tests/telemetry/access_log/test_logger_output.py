"""Lines to a logger."""

from __future__ import annotations

import logging

import pytest

from meshlib.telemetry.access_log.logger_output import LoggerOutput


def test_a_line_is_a_record_without_its_end(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("test.access")
    with caplog.at_level(logging.INFO, "test.access"):
        assert LoggerOutput(logger).write(["a 100% line\n", b"b\n"], lambda: False) == 0
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [(20, "a 100% line"), (20, "b")]


def test_what_a_filter_raises_is_a_line_lost() -> None:
    logger = logging.Logger("own", logging.INFO)

    def refuse(record: logging.LogRecord) -> bool:
        raise ValueError(record.getMessage())

    logger.addFilter(refuse)
    assert LoggerOutput(logger).write(["a\n", "b\n"], lambda: False) == 2

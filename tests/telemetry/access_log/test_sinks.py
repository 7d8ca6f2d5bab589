"""Sinks are shared, and go with their last user."""

from __future__ import annotations

import logging
from pathlib import Path

from meshlib.telemetry.access_log.sinks import Sinks


def test_one_writer_a_file_whoever_logs_to_it(tmp_path: Path) -> None:
    sinks = Sinks()
    path = str(tmp_path / "access.log")
    first, second = sinks.file(path, 1), sinks.file(f"{tmp_path}/./access.log", 2)
    assert first is second
    first.put("a\n", 2)
    sinks.release(1)
    second.put("b\n", 2)
    sinks.release(2, 30)
    assert Path(path).read_text() == "a\nb\n"
    assert sinks.file(path, 3) is not first
    sinks.release(3)


def test_dev_stdout_is_the_programs_output() -> None:
    sinks = Sinks()
    assert sinks.file("/dev/stdout", 1) is sinks.stream("stdout", 1)
    assert sinks.file("/dev/stderr", 1) is sinks.stream("stderr", 1)
    sinks.release(1)


def test_a_logger_is_known_by_itself() -> None:
    sinks = Sinks()
    a, b = logging.Logger("same"), logging.Logger("same")
    assert sinks.logger(a, 1) is sinks.logger(a, 2)
    assert sinks.logger(a, 1) is not sinks.logger(b, 1)
    sinks.release(1)
    sinks.release(2)

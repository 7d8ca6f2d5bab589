"""``meshlib bench report``: a page of a report's file."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshlib.bench.page import page
from meshlib.cli.main import main
from tests.support.bench_report import made_up


def test_a_page_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(made_up(quick=True).to_json())
    said = CliRunner().invoke(main, ["bench", "report", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html")])
    assert said.exit_code == 0
    assert (tmp_path / "a.html").read_text() == page(made_up(quick=True))


def test_or_to_the_output() -> None:
    said = CliRunner().invoke(main, ["bench", "report", "-"], input=made_up(quick=True).to_json())
    assert said.exit_code == 0
    assert said.stdout == page(made_up(quick=True))


def test_what_is_not_a_report_or_cannot_be_written_is_refused(tmp_path: Path) -> None:
    said = CliRunner().invoke(main, ["bench", "report", "-"], input="{}")
    assert said.exit_code == 2
    assert "is not a report" in said.stderr
    into = str(tmp_path / "none" / "a.html")
    said = CliRunner().invoke(main, ["bench", "report", "-", "--html", into], input=made_up(quick=True).to_json())
    assert said.exit_code == 2
    assert "there is no folder" in said.stderr


def test_a_page_that_was_there_stays_when_the_new_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Path, text: str, **_: object) -> None:
        file.write_bytes(text[:1000].encode())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    into = tmp_path / "a.html"
    into.write_bytes(b"a good one")
    said = CliRunner().invoke(main, ["bench", "report", "-", "--html", str(into)], input=made_up(quick=True).to_json())
    assert said.exit_code == 2
    assert "a.html: it cannot be written: No space left on device" in said.stderr
    assert into.read_bytes() == b"a good one"
    assert list(tmp_path.iterdir()) == [into]


def test_an_output_that_is_full_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(made_up(quick=True).to_json())
    program = "from meshlib.cli.main import main; main()"
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [sys.executable, "-c", program, "bench", "report", str(tmp_path / "a.json")],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert ran.returncode == 2
    assert ran.stderr.endswith("Error: standard output: it cannot be written: No space left on device\n")
    assert "Traceback" not in ran.stderr

"""``meshlib bench report``: a page of a report's file."""

from __future__ import annotations

from pathlib import Path

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
    assert "cannot be written: No such file or directory" in said.stderr

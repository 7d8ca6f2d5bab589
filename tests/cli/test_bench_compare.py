"""``meshlib bench compare``: exit codes, what is printed, and files that are not reports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from meshlib.bench.result import CLOSED, Measure, Report, Row
from meshlib.cli.main import main

STEADY = (1.00, 1.01, 0.99, 1.005, 0.995, 1.002)
ROW = Row("library", "meshlib", None, "asyncio", 32, 1024, False, 1, CLOSED, {"p50": Measure("ms", STEADY)})
REPORT = Report("0.1.0", "abc", "2026-11-26T22:00:00Z", 1.0, False, {"cpus": 2}, (), (ROW,))


def with_p50(*values: float) -> Report:
    return replace(REPORT, at="2026-11-26T23:00:00Z", rows=(replace(ROW, measures={"p50": Measure("ms", values)}),))


def run(folder: Path, before: Report, after: Report, *options: str) -> Result:
    (folder / "a.json").write_text(before.to_json())
    (folder / "b.json").write_text(after.to_json())
    return CliRunner().invoke(main, ["bench", "compare", str(folder / "a.json"), str(folder / "b.json"), *options])


@pytest.mark.parametrize(("times", "exit_code", "word"), [(1.3, 1, "slower"), (0.7, 0, "faster"), (1.0, 0, "same")])
def test_the_exit_code_says_whether_something_is_worse(tmp_path: Path, times: float, exit_code: int, word: str) -> None:
    said = run(tmp_path, REPORT, with_p50(*(each * times for each in STEADY)))
    assert said.exit_code == exit_code
    line = said.stdout.splitlines()[1].split("\t")
    assert line[:3] == [word, "library: meshlib (asyncio, 32 in flight, 1 kB, plain, 1 rule)", "p50"]
    assert (
        f"1 {word if word == 'same' else {'slower': 'worse', 'faster': 'better'}[word]}" in said.stdout.splitlines()[-1]
    )


def test_who_cannot_tell_says_so_and_is_no_failure(tmp_path: Path) -> None:
    said = run(tmp_path, REPORT, with_p50(9.0, 9.0))
    assert said.exit_code == 0
    assert "cannot tell\t" in said.stdout
    assert "2 more rounds of each might tell" in said.stdout


def test_warnings_go_to_stderr(tmp_path: Path) -> None:
    said = run(tmp_path, REPORT, replace(with_p50(*STEADY), machine={"cpus": 64}))
    assert "warning: the machines differ (cpus: 2 and 64)" in said.stderr
    assert "machines" not in said.stdout


def test_rows_of_one_alone_are_named(tmp_path: Path) -> None:
    said = run(tmp_path, REPORT, replace(REPORT, rows=(replace(ROW, name="other"),)))
    assert "only in A: library: meshlib (" in said.stdout
    assert "only in B: library: other (" in said.stdout
    assert said.stdout.splitlines()[-1] == "no row is in both reports: nothing to compare"
    assert said.exit_code == 2  # "nothing is worse" would be a lie to a pipeline


@pytest.mark.parametrize("margin", ["nan", "inf", "0", "-1"])
def test_a_margin_is_a_number_of_percent(tmp_path: Path, margin: str) -> None:
    said = run(tmp_path, REPORT, REPORT, "--margin", margin)
    assert said.exit_code == 2
    assert "Invalid value for '--margin'" in said.stderr


def test_for_programs_it_is_json(tmp_path: Path) -> None:
    said = run(tmp_path, REPORT, with_p50(*(each * 2 for each in STEADY)), "-o", "json")
    found = json.loads(said.stdout)
    assert found["counts"] == {"better": 0, "worse": 1, "same": 0, "cannot tell": 0}
    assert found["compared"][0]["ratio"] == pytest.approx(2)
    assert found["compared"][0]["measure"] == "p50"


def test_a_measure_that_no_row_has_is_refused(tmp_path: Path) -> None:
    said = run(tmp_path, REPORT, REPORT, "--measure", "p5")
    assert said.exit_code == 2
    assert "no row has a measure 'p5'; there are: p50" in said.stderr


@pytest.mark.parametrize(
    ("content", "told"), [(b"{}", "has no field format"), (b"\xff\xfe", "is not text in UTF-8"), (b"", "is not JSON")]
)
def test_a_file_that_is_not_a_report_is_refused_by_name(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "a.json").write_text(REPORT.to_json())
    (tmp_path / "b.json").write_bytes(content)
    said = CliRunner().invoke(main, ["bench", "compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    assert said.exit_code == 2
    assert told in said.stderr
    assert "b.json" in said.stderr


def test_control_characters_of_a_report_do_not_reach_the_terminal(tmp_path: Path) -> None:
    evil = replace(REPORT, rows=(replace(ROW, name="\x1b[2J"),))
    said = run(tmp_path, evil, replace(evil, machine={"\x1b]0;x": 1}, at="later"))
    assert "\x1b" not in said.output

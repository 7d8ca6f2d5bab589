"""``meshlib bench``: real runs with rounds that are short, interruptions, and wrong usage."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshlib.bench.plan import Pace
from meshlib.bench.result import CPU, Measure, Report, Row
from meshlib.cli.bench import _show
from meshlib.cli.main import main
from tests.support.eventually import eventually

COMMAND = [sys.executable, "-c", "from meshlib.cli.main import main; main()", "bench"]
SHORT = ("--rounds", "1", "--seconds", "0.05")


def test_help_names_what_is_below() -> None:
    said = CliRunner().invoke(main, ["bench", "--help"])
    assert said.exit_code == 0
    assert "compare" in said.stdout


def test_a_quick_run_shows_tables_and_writes_its_report(tmp_path: Path) -> None:
    file, page = tmp_path / "report.json", tmp_path / "report.html"
    command = [*COMMAND, "--quick", "--only", "library", *SHORT, "--json", str(file), "--html", str(page)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    report = Report.from_json(file.read_text())
    assert report.quick
    assert {row.name for row in report.rows} >= {"bare httpx", "httpx through meshlib"}
    assert {row.in_flight for row in report.rows} == {1, 32}
    assert all(len(row.measures[CPU].values) == 1 for row in report.rows)
    assert "httpx through meshlib" in ran.stdout
    assert "no conclusion on the CPU of httpx through meshlib and bare httpx" in ran.stdout
    assert "too few rounds" in ran.stdout
    assert f"written: {file}\nwritten: {page}\n" in ran.stdout
    assert "httpx through meshlib" in page.read_text()
    assert " left] library: asyncio, 32 in flight" in ran.stderr


def descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield int(child)
            yield from descendants(int(child))


def test_a_report_of_nothing_is_drawn_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C before the first row."""
    from meshlib.bench.rounds import Runner

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Runner, "measure", interrupted)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # of this process they stay as they are
    page = tmp_path / "report.html"
    ran = CliRunner().invoke(main, ["bench", "--quick", "--html", str(page)])
    assert ran.exit_code == 130, ran.output
    assert "interrupted" in page.read_text()


def test_a_full_disk_costs_the_file_and_not_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from meshlib.bench.rounds import Runner

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Runner, "measure", interrupted)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    page = tmp_path / "report.html"
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    ran = CliRunner().invoke(main, ["bench", "--quick", "--json", str(full), "--html", str(page)])
    assert ran.exit_code == 130, ran.output
    assert f"not written: {full}: No space left on device" in ran.output
    assert f"written: {page}" in ran.output
    assert full.is_symlink()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_while_it_imports_is_one_line(number: signal.Signals, code: int) -> None:
    """Pydantic, for one, makes an error of its own of a KeyboardInterrupt that comes while a model is built."""
    program = f"""
import os, sys
from meshlib.cli.main import main

class Interrupts:
    def find_spec(self, name, *_):
        if name == "meshlib.bench.plan":
            try:
                os.kill(os.getpid(), {int(number)})
            except BaseException as error:
                raise ValueError("of another kind") from error

sys.meta_path.insert(0, Interrupts())
main(["bench", "--quick"])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr, ran.stdout) == (code, "interrupted: nothing was measured\n", "")


@pytest.fixture
def no_nohup() -> Iterator[None]:
    """Processes that are begun here hear of a terminal that is closed, though these tests may not."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


ENDS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.usefixtures("no_nohup")
@pytest.mark.parametrize(("number", "code"), ENDS)
def test_an_interruption_writes_what_was_measured_and_leaves_nothing_running(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    file = tmp_path / "report.json"
    command = [*COMMAND, "--quick", "--only", "library", "--rounds", "20", "--seconds", "0.03", "--json", str(file)]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "scenes")}
    (tmp_path / "scenes").mkdir()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as run:
        assert run.stderr is not None
        assert run.stdout is not None
        for line in run.stderr:
            if "32 in flight" in line:
                break
        children = list(descendants(run.pid))
        assert len(children) >= 3
        os.killpg(run.pid, number)  # as a terminal's Ctrl-C does
        said = run.stdout.read() + run.stderr.read()
        assert run.wait(60) == code, said
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    assert [each for each in (tmp_path / "scenes").iterdir() if each.name.startswith("meshlib-bench")] == []
    report = Report.from_json(file.read_text())
    assert {row.in_flight for row in report.rows} >= {1}
    assert "interrupted: the report has what was measured until then" in report.notes
    assert "bare httpx" in said


def test_with_nohup_a_run_outlives_its_terminal() -> None:
    program = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from meshlib.cli import bench; print(bench.HEEDED)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "SIGHUP" not in ran.stdout
    assert "SIGINT" in ran.stdout


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_narrow_terminal_figures_keep_the_names_of_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    rows = tuple(
        Row(
            "library", name, None, "asyncio", 1, 1024, False, 1, "closed",
            {CPU: Measure("s", (1.2345,)), "p50": Measure("ms", (4.18,)), "p99": Measure("ms", (15.8,))},
        )
        for name in ("bare httpx", "httpx through meshlib")
    )  # fmt: skip
    out = Terminal()
    _show(Report("1", "", "", 1.0, True, {}, (), rows), Pace(1, 0.1), out)
    said = out.getvalue()
    assert "bare httpx" in said
    assert "1,234" in said
    assert "…" not in said


def test_a_report_that_could_not_be_written_is_said_before_an_hour_is_spent(tmp_path: Path) -> None:
    ran = CliRunner().invoke(main, ["bench", "--quick", "--json", str(tmp_path / "none" / "report.json")])
    assert ran.exit_code == 2
    assert "there is no folder" in ran.output


def begun(*options: str, stdout: int) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, "--quick", *SHORT, *options], stdout=stdout, stderr=subprocess.PIPE, text=True)


def test_the_output_may_be_where_the_report_goes_as_a_file_and_holds_nothing_else(tmp_path: Path) -> None:
    """``--json /dev/stdout > out.json``"""
    with (
        open(tmp_path / "out.json", "w") as out,
        begun("--only", "library", "--json", "/dev/stdout", stdout=out.fileno()) as run,
    ):
        assert run.stderr is not None
        said = run.stderr.read()
        assert run.wait(300) == 0, said
    report = Report.from_json((tmp_path / "out.json").read_text())
    assert {row.in_flight for row in report.rows} == {1, 32}
    assert [each.name for each in tmp_path.iterdir()] == ["out.json"]
    assert "What follows" in said
    assert "written: /dev/stdout" in said


def test_a_fifo_gets_one_document_also_after_an_interruption(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    asked = ("--only", "library", "--rounds", "5", "--json", str(fifo))
    with ThreadPoolExecutor(1) as reader, begun(*asked, stdout=subprocess.PIPE) as run:
        read = reader.submit(fifo.read_text)
        try:
            assert run.stderr is not None
            for line in run.stderr:
                if "32 in flight" in line:  # one part is over
                    break
            run.send_signal(signal.SIGINT)
            shown, said = run.communicate(timeout=60)
        finally:
            run.kill()
            os.close(os.open(fifo, os.O_RDWR | os.O_NONBLOCK))  # where nobody has written, reading ends all the same
    assert run.returncode == 130, said
    report = Report.from_json(read.result(60))
    assert {row.in_flight for row in report.rows} >= {1}
    assert "interrupted: the report has what was measured until then" in report.notes
    assert fifo.is_fifo()
    assert f"written: {fifo}" in shown


def test_where_there_is_no_proc_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    ran = CliRunner().invoke(main, ["bench", "--quick"])
    assert ran.exit_code == 2
    assert "runs on Linux only, not on darwin" in ran.output

"""``meshlib top``: the table, and that it ends well."""

from __future__ import annotations

import contextlib
import io

import pytest
from click.testing import CliRunner
from rich.console import Console

import meshlib
from meshlib.admin.attach import attach
from meshlib.cli.main import main
from meshlib.cli.rates import HostRate
from meshlib.cli.top import COLUMNS, _live, _table, row
from meshlib.problems import MeshError
from tests.support.admin import runtime_folder

BUSY = HostRate("reviews", "made", 12.34, 0.125, 0.5, 1234.5, 3, 2, 1, 1)
SERVED = HostRate("me", "served", 1.0, 0.0, None, None, 0, 0, 0, 0)


@pytest.fixture(autouse=True)
def runtime(monkeypatch, tmp_path):
    runtime_folder(monkeypatch, tmp_path)


@pytest.fixture
def mesh():
    with meshlib.Mesh.from_yaml("", admin="unix") as made:
        yield made


def test_a_host_in_a_row():
    assert row(BUSY) == ["reviews", "", "12.3", "12.5%", "0.50", "1234", "3", "2", "1"]
    assert row(SERVED) == ["me", "served", "1.0", "-", "-", "-", "-", "-", "-"]
    assert len(COLUMNS) == len(row(BUSY)) == len(row(SERVED))


def test_the_table_of_a_terminal(mesh):
    screen = Console(file=io.StringIO(), width=160, markup=False)
    screen.print(_table(attach(None), {"workload": "web.default"}, [BUSY, SERVED]))
    text = screen.file.getvalue()
    assert "web.default  process " in text
    assert "12.5%" in text
    waiting = Console(file=io.StringIO(), width=160, markup=False)
    waiting.print(_table(attach(None), {"workload": "web.default"}, []))
    assert "waiting for the first interval" in waiting.file.getvalue()


def test_a_live_table_goes_on_until_the_process_is_gone(mesh, monkeypatch):
    looks = []

    def rest(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            mesh.close()

    monkeypatch.setattr("meshlib.clock.rest", rest)
    at = attach(None)
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(MeshError, match="the process has ended"):
        _live(at, at.json("/hosts"), 2.0)
    assert looks == [2.0, 2.0, 2.0]
    assert "unknown.default" in out.getvalue()


def test_ctrl_c_ends_it_without_a_word(mesh, monkeypatch):
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("meshlib.clock.rest", interrupt)
    result = CliRunner().invoke(main, ["top"])
    assert (result.exit_code, result.output) == (0, "")


def test_an_interval_that_is_none_is_refused():
    result = CliRunner().invoke(main, ["top", "--interval", "soon"])
    assert (result.exit_code, "is not a valid duration" in result.output) == (2, True)


def test_rich_is_not_loaded_for_scripts():
    import subprocess
    import sys

    code = "import sys, meshlib.cli.top; assert 'rich' not in sys.modules and 'meshlib.admin.attach' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

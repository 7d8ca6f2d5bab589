"""docs/identity.md: its commands run, its error texts are those of the code, its names exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

import meshlib
from meshlib.cli.main import main

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/identity.md").read_text()


def quoted() -> list[str]:
    """What the table of errors says is said: the quoted part of each row's first column, where it begins with it."""
    table = PAGE[PAGE.index("| message |") :]
    return re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)


def test_the_table_has_the_errors_as_they_are_said() -> None:
    source = " ".join(re.sub(r'"\s*f?"', "", file.read_text()) for file in (ROOT / "meshlib").rglob("*.py"))
    assert len(quoted()) > 12
    assert [text for text in quoted() if text not in source] == []


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [line for line in PAGE.splitlines() if line.startswith("meshlib ca ") and " serve " not in line]
    assert len(commands) == 8
    folder = tmp_path
    for number, line in enumerate(commands):
        if line.startswith("meshlib ca init "):  # a block begins, with an authority of its own
            folder = tmp_path / str(number)
            folder.mkdir()
            monkeypatch.chdir(folder)
        ran = CliRunner().invoke(main, shlex.split(line)[1:])
        assert ran.exit_code == 0, ran.output
    assert (folder / "run/web/cert.pem").is_file()


def test_the_ways_to_an_identity_are_there() -> None:
    named = set(re.findall(r"meshlib\.Identity\.(\w+)", PAGE))
    assert named == {"from_files", "from_workload_api", "from_istiod"}
    assert [name for name in named if not hasattr(meshlib.Identity, name)] == []

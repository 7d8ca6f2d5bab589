"""Typing as users run it: ``application`` passes mypy --strict, with types that ``assert_type`` states (an ``Any`` would fail);
each line of ``wrong`` that is marked is an error. ``make typing`` does the same with pyright."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("mypy", reason="mypy is not installed: nobody looks at the types")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def mypy(folder: str) -> tuple[int, str]:
    files = sorted(str(path) for path in (HERE / folder).glob("*.py"))
    assert files
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "--no-pretty", *files]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    return ran.returncode, ran.stdout + ran.stderr


def marked(file: Path) -> list[int]:
    """The lines that are wrong."""
    lines = file.read_text("utf-8").splitlines()
    return [number for number, line in enumerate(lines, 1) if line.endswith("  # wrong")]


def test_an_application_of_the_public_api_has_no_error_and_no_any() -> None:
    assert mypy("application")[1].startswith("Success")


def test_each_mistake_is_an_error_and_nothing_else_is() -> None:
    code, said = mypy("wrong")
    assert code == 1
    found = sorted({int(line) for line in re.findall(r"wrong/clients\.py:(\d+): error:", said)})
    assert found == marked(HERE / "wrong" / "clients.py"), said
    assert len(found) > 20

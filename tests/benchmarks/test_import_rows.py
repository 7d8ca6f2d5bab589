"""The row `python -m benchmarks --only import`."""

from __future__ import annotations

import os
import subprocess

import pytest

from benchmarks.import_rows import Taken


def test_the_least_of_all_runs_counts() -> None:
    taken = Taken()
    for code in ("held = bytearray(30_000_000); sum(range(2_000_000))", "pass"):
        taken.take(code, dict(os.environ))
    alone = Taken()
    alone.take("pass", dict(os.environ))
    assert 0 < taken.cpu < float("inf")
    assert taken.memory < alone.memory + 15_000  # KiB: not that of the run that held 30 MB


def test_an_import_that_fails_is_an_error_and_not_a_figure() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        Taken().take("import no_such_module_at_all", dict(os.environ))

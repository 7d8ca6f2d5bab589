"""The log of ``meshlib proxy`` and ``meshlib serve``."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.proxy_command import ROOT


@pytest.mark.parametrize(("level", "heard"), [("info", False), ("debug", True), ("error", False)])
def test_watchfiles_is_heard_at_debug_alone(level: str, heard: bool) -> None:
    said = "import logging; from meshlib.cli.log_level import log_to_stderr; log_to_stderr({!r}); {}"
    line = "logging.getLogger('watchfiles.main').info('1 change detected')"
    command = [sys.executable, "-c", said.format(level, line)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)
    assert ("1 change detected" in done.stderr) is heard

"""The command ``meshlib`` (alias ``sidecarless``). It lies outside the package meshlib, so that it can say so when that is
not ours: PyPI's distribution ``meshlib`` is another project with the same import name."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

MARK = '__distribution__ = "sidecarless"'
REMEDY = "pip uninstall meshlib meshlib-core, then pip install --force-reinstall sidecarless"


def main() -> None:
    """Check that the package is ours, without importing it, and run the command."""
    if os.name != "posix":
        sys.exit(f"meshlib: sidecarless runs on POSIX systems only (Linux, macOS), not on {sys.platform}; use WSL 2")
    problem = what_is_wrong()
    if problem:
        sys.exit(f"meshlib: {problem}\n    {REMEDY}")
    try:
        from meshlib.cli.main import main as command

        command()
    except (
        KeyboardInterrupt,
        RuntimeError,
    ) as error:  # by Ctrl-C while something is imported; others are the commands' own
        # until Python 3.12 what interrupts a __set_name__ (each dataclass has some) is the cause of a RuntimeError
        if not isinstance(error, KeyboardInterrupt) and not isinstance(error.__cause__, KeyboardInterrupt):
            raise
        sys.stderr.write("interrupted\n")
        sys.exit(130)


def what_is_wrong() -> str:
    """Why the package meshlib cannot be used, "" when it can."""
    spec = importlib.util.find_spec("meshlib")
    if spec is None:
        return "the package meshlib is not installed"
    if spec.origin is None:
        return f"the package meshlib has lost its __init__.py ({', '.join(spec.submodule_search_locations or ())})"
    try:
        ours = MARK in Path(spec.origin).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return f"{spec.origin} cannot be read: {error}"
    return "" if ours else f"{spec.origin} belongs to another distribution, not to sidecarless"

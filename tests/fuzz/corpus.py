"""The targets by name, and the inputs kept of each: what a run found, and what was once wrong."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

from tests.fuzz import targets

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
TARGETS = tuple(sorted(module.name for module in pkgutil.iter_modules(targets.__path__)))


def run_of(target: str) -> Callable[[bytes], None]:
    """The function that takes an input and raises when meshlib is wrong."""
    run: Callable[[bytes], None] = importlib.import_module(f"tests.fuzz.targets.{target}").run
    return run


def kept(target: str) -> list[Path]:
    """Its inputs, in order."""
    return sorted((CORPUS / target).iterdir())

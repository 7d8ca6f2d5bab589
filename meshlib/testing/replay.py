"""The seed of a test: where it comes from, and what a test that fails says of it."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

OPTION: Final = "--mesh-seed"
VARIABLE: Final = "MESHLIB_SEED"

_seed = pytest.StashKey[int]()
_lines = pytest.StashKey["list[Callable[[], str]]"]()


def seed_of_run(config: pytest.Config) -> int:
    """``--mesh-seed``, else MESHLIB_SEED, else a new one for this run. Raises ``pytest.UsageError`` for one that is not a whole
    number."""
    if _seed not in config.stash:
        given = config.getoption(OPTION, None) or os.environ.get(VARIABLE) or ""
        try:
            config.stash[_seed] = int(given) if given else int.from_bytes(os.urandom(4), "big")
        except ValueError:
            where = OPTION if config.getoption(OPTION, None) else VARIABLE
            raise pytest.UsageError(f"{where}: {given!r} is not a whole number") from None
    return config.stash[_seed]


def tell(node: pytest.Item, line: Callable[[], str]) -> None:
    """Have a line in the report of a test if it fails."""
    if _lines not in node.stash:
        node.stash[_lines] = []
    node.stash[_lines].append(line)


def report(item: pytest.Item, made: pytest.TestReport) -> None:
    """Add what was told to the report of a phase that has failed."""
    if made.failed and _lines in item.stash:
        lines = dict.fromkeys(line() for line in item.stash[_lines])
        made.sections.append(("meshlib", "\n".join(filter(None, lines))))


def replayed_by(seed: int, node: pytest.Item) -> str:
    """The command that runs a test with this seed again, for the shell and the folder that pytest was started in."""
    file, colons, name = node.nodeid.partition("::")  # relative to the root of the project
    there = os.path.relpath(node.config.rootpath / file, node.config.invocation_params.dir)
    return f"seed {seed}: replay with  pytest {OPTION}={seed} {shlex.quote(there + colons + name)}"

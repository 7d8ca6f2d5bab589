"""What is told PyInstaller of the standalone binary; whether the binary runs is ``make binary``'s to say."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib

import pytest

from tests.packaging.binary import IMPORTED, ROOT


def extras() -> list[str]:
    """Those that ``make binary`` installs."""
    found = re.search(r'BINARY\)/bin/python -m pip install .* "\.\[([a-z0-9,]+)\]"', (ROOT / "Makefile").read_text())
    assert found is not None
    return found[1].split(",")


def test_it_has_what_the_proxy_can_do() -> None:
    assert "proxy" in extras()


@pytest.mark.parametrize("extra", extras())
def test_what_its_extras_bring_is_in_it_though_it_is_imported_late(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    modules = importlib.metadata.packages_distributions()
    for requirement in project["optional-dependencies"][extra]:
        name = re.match(r"[\w-]+", requirement)
        assert name is not None
        of_it = {module for module, distributions in modules.items() if name[0] in distributions}
        assert of_it & set(IMPORTED), requirement

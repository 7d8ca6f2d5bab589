"""docs/compatibility.md: its table is made of what the suite of guests shows, and names what is there."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.guests.table import GUESTS, ROOT, on_the_page, rendered, versions_on_the_page

GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
GROUP = {made.name: made for made in map(Requirement, [each for each in GROUPS["guests"] if isinstance(each, str)])}


def test_the_table_says_what_the_suite_knows() -> None:
    assert on_the_page() == rendered(versions_on_the_page()), (
        "python -m tests.guests.table (in the venv of make guests)"
    )


@pytest.mark.parametrize("guest", GUESTS, ids=lambda guest: guest.name)
def test_a_guest_is_tried_with_a_version_that_make_guests_installs(guest) -> None:
    assert guest.name in GROUP
    assert GROUP[guest.name].specifier.contains(Version(versions_on_the_page()[guest.name]))


@pytest.mark.parametrize("guest", GUESTS, ids=lambda guest: guest.name)
def test_a_guest_is_named_by_the_test_that_shows_it(guest) -> None:
    text = (ROOT / guest.test).read_text().lower().replace("_", "-").replace(".", "-")
    assert guest.name in text or guest.name.removesuffix("-sdk") in text


def test_every_file_of_the_suite_shows_a_guest_of_the_table() -> None:
    files = {f"tests/guests/{path.name}" for path in Path(__file__).with_name("guests").glob("test_*.py")}
    assert files - {"tests/guests/test_table.py"} == {g.test for g in GUESTS if g.test.startswith("tests/guests/")}

"""``make guests`` runs all of the suite: nothing of it is skipped for want of a library."""

from __future__ import annotations

import importlib.metadata
import os

import pytest

from tests.guests.table import GUESTS, installed

NEEDED = os.environ.get("MESHLIB_GUESTS") == "1"
"""Set by ``make guests``. In the ordinary tests those run whose libraries are there."""


@pytest.mark.skipif(not NEEDED, reason="make guests")
def test_every_guest_is_installed():
    try:
        assert len(installed()) == len(GUESTS)
    except importlib.metadata.PackageNotFoundError as error:
        pytest.fail(f"{error.name} is not installed: it is in the dependency group guests")

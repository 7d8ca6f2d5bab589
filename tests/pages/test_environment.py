"""docs/environment.md has every variable that meshlib reads, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"\bMESHLIB_[A-Z0-9_]*[A-Z0-9]\b")
NOT_FOR_USERS = {
    "MESHLIB_COMPLETE",  # click's, of shell completion
    "MESHLIB_INBOUND",
    "MESHLIB_DIVERT",  # a chain of iptables
    "MESHLIB_DNS",  # others
    "MESHLIB_DNS_IN",
    "MESHLIB_OUTPUT",
}


def test_the_page_has_every_variable_that_is_read() -> None:
    code = {name for file in (ROOT / "meshlib").rglob("*.py") for name in NAME.findall(file.read_text())}
    page = set(NAME.findall((ROOT / "docs/environment.md").read_text()))
    assert code - NOT_FOR_USERS == page

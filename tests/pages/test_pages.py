"""Every block of the README and of the pages in docs/ does what the page says, run as its reader would run it."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry import trace

from tests.support.page import Page

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *(str(file.relative_to(ROOT)) for file in sorted((ROOT / "docs").glob("**/*.md")))]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the page's files are written."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page may install a tracer provider: its program ends with it, the process of the tests does not."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", trace.Once())


@pytest.mark.parametrize("name", PAGES)
def test_a_page(name: str) -> None:
    with Page(ROOT / name) as page:
        page.run()


@pytest.mark.parametrize("name", PAGES)
def test_each_block_says_what_it_is(name: str) -> None:
    """One that does not would be run by nobody."""
    page = Page(ROOT / name)
    assert page.blocks_without_a_language() == []
    assert page.languages() - Page.known_languages() == set()

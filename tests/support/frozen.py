"""What was there before the first test is no business of the garbage collector.

Modules and thousands of tests, as pytest holds them, are a million objects: a ``gc.collect()`` would look at each of them, for
a second, and there are hundreds in tests, beside those that the collector makes by itself.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

import pytest

_count, _thaw = gc.get_freeze_count, gc.unfreeze


def freeze() -> None:
    """For good: tests that freeze what others have left, and thaw it, do not thaw this. That something is frozen is said
    without counting it, which takes a tenth of a second and is asked with each mesh that is made."""
    gc.freeze()
    gc.unfreeze = lambda: None
    gc.get_freeze_count = lambda: 1


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """While a million objects are made that live on, the collector would look at all of them again and again: three seconds of
    the five that it takes to parse meshlib."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture
def thawed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For tests of what is done about a collector for which nothing is frozen."""
    monkeypatch.setattr(gc, "get_freeze_count", _count)
    monkeypatch.setattr(gc, "unfreeze", _thaw)
    gc.unfreeze()
    yield
    gc.freeze()

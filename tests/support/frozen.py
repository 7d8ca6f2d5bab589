"""What was there before the tests of a module is no business of the garbage collector while they run.

The modules and thousands of tests, as pytest holds them, are millions of objects: a ``gc.collect()`` looks at each of them, for
two seconds. Import ``frozen`` into a module whose tests collect often.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def frozen() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()

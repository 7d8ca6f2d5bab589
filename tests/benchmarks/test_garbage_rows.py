"""A call through the mesh leaves nothing for the garbage collector."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from benchmarks.garbage_rows import unreachable, ways
from benchmarks.processes import backend
from tests.support.shortcuts import NEEDS_SHORTCUTS

CALLS = 20


@pytest.fixture(scope="module")
def calls() -> Iterator[dict[str, Callable[[], object]]]:
    with backend("benchmarks.web_backend") as (port, _), ways(port) as made:
        yield made


@NEEDS_SHORTCUTS
@pytest.mark.parametrize(
    "name",
    [
        "mesh.client()",
        "own httpx.Client",
        "transport",
        "mesh.async_client()",
        "own httpx.AsyncClient",
    ],
)
def test_no_call_leaves_a_cycle(calls: dict[str, Callable[[], object]], name: str) -> None:
    # what other threads of the process give up meanwhile is seen once, what a call leaves each time
    assert any(unreachable(calls[name], CALLS) == 0 for _ in range(3))


@pytest.mark.parametrize("name", ["bare httpx.Client", "bare httpx.AsyncClient"])
def test_the_count_sees_the_cycles_that_httpx_leaves(calls: dict[str, Callable[[], object]], name: str) -> None:
    assert unreachable(calls[name], CALLS) > 20

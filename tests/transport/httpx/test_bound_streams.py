"""The stream that httpx's client puts around a response's own tells it how long it took, in every version of httpx."""

from __future__ import annotations

import importlib
import sys
from time import perf_counter

import httpx
import httpx._client
import pytest

from meshlib.transport.httpx import bound_streams
from meshlib.transport.httpx.bound_streams import bound, bound_async


def test_a_response_knows_at_its_end_how_long_it_took() -> None:
    response = httpx.Response(200, stream=httpx.ByteStream(b"hello"))
    bound(response, perf_counter() - 5.0)
    with pytest.raises(RuntimeError, match="elapsed"):
        response.elapsed
    assert response.read() == b"hello"
    assert 5.0 <= response.elapsed.total_seconds() < 60.0
    assert type(response.stream).__module__ == "httpx._client"


async def test_on_a_loop_likewise() -> None:
    response = httpx.Response(200, stream=httpx.ByteStream(b"hello"))
    bound_async(response, perf_counter() - 5.0)
    assert await response.aread() == b"hello"
    assert 5.0 <= response.elapsed.total_seconds() < 60.0


def test_streams_of_an_httpx_that_is_not_known_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        def __init__(self, stream: object, *, when: float) -> None:
            """Takes something else."""

    monkeypatch.setattr(httpx._client, "BoundSyncStream", Other)
    monkeypatch.delitem(sys.modules, bound_streams.__name__)
    with pytest.raises(ImportError, match="take stream, when, which is not known here"):
        importlib.import_module(bound_streams.__name__)

"""What callers of httpx and of httpx2 are given by one and the same transport: each its own."""

from __future__ import annotations

import httpx
import httpx2
import pytest

from meshlib.transport.httpx.dialect import dialect, dialect_of, known

MODULES = pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])


@MODULES
def test_streams_are_of_the_kinds_that_the_modules_clients_ask_for(module):
    mine = dialect(module)
    assert mine.module is module
    assert issubclass(mine.stream, module.SyncByteStream)
    assert issubclass(mine.traced, module.SyncByteStream)
    assert issubclass(mine.async_stream, module.AsyncByteStream)
    assert issubclass(mine.async_traced, module.AsyncByteStream)


@MODULES
def test_the_request_tells_and_its_class_is_remembered(module):
    known.pop(module.Request, None)
    found = dialect_of(module.Request("GET", "http://a/"))
    assert found is dialect(module) is known[module.Request]


@MODULES
def test_a_class_of_the_callers_own_is_not_kept(module):
    derived = type("Request", (module.Request,), {})
    assert dialect_of(derived("GET", "http://a/")) is dialect(module)
    assert derived not in known

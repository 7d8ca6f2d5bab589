"""httpx or httpx2: whose classes a transport of the caller's is made of."""

from __future__ import annotations

import httpx
import httpx2
import pytest

from meshlib.transport.httpx.module import HttpxModule, module_of, typed


@pytest.mark.parametrize(
    ("inner", "module"),
    [
        (httpx.MockTransport(lambda request: httpx.Response(200)), httpx),
        (httpx2.MockTransport(lambda request: httpx2.Response(200)), httpx2),
        (None, httpx),
        (object(), httpx),
    ],
)
def test_a_transport_is_of_the_module_whose_class_it_is(inner, module):
    assert module_of(inner) is module


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_both_modules_have_all_that_a_door_is_made_of(module):
    names = HttpxModule.__annotations__
    assert len(names) > 15
    assert [name for name in names if not isinstance(getattr(typed(module), name, None), type)] == []

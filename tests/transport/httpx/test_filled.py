"""httpx's objects that are filled without its ``__init__`` are the same, or are not made."""

from __future__ import annotations

import httpx
import httpx2
import pytest

from meshlib.httpx_module import typed
from meshlib.transport.httpx import filled
from meshlib.transport.httpx.filled import (
    PLAIN,
    compare,
    filled_headers,
    headers_as_known,
    raw_headers,
    requests_as_known,
    responses_as_known,
)


@pytest.fixture(params=[httpx, httpx2], ids=lambda module: module.__name__)
def module(request):
    return typed(request.param)


def test_the_installed_httpx_is_as_known(module):
    compare(module)
    assert (module.Headers in headers_as_known) is not PLAIN
    assert responses_as_known(module) is not PLAIN


def test_requests_of_httpx_are_as_known():
    compare(typed(httpx))
    assert requests_as_known(typed(httpx)) is not PLAIN


def test_raw_headers_are_those_of_httpx(module):
    compare(module)
    made = module.Headers([("A", "1"), ("a", "2"), ("B", "\xe9".encode())])
    assert raw_headers(made) == made.raw

    class Others(module.Headers):
        @property
        def raw(self):
            return [(b"x", b"y")]

    assert raw_headers(Others()) == [(b"x", b"y")]


def test_filled_headers_are_headers(module):
    made = filled_headers(module.Headers, [(b"A", b"a", b"1")])
    assert made == module.Headers({"A": "1"})
    made["B"] = "2"
    assert made.encoding == "ascii"
    assert made.multi_items() == [("a", "1"), ("b", "2")]


class _Stranger:
    """A module whose classes know one thing more."""

    ByteStream = httpx.ByteStream
    Headers = httpx.Headers

    class Response(httpx.Response):
        def __init__(self, *args, **more):
            super().__init__(*args, **more)
            self.something = 1

    class Request(httpx.Request):
        def __init__(self, *args, **more):
            super().__init__(*args, **more)
            self.extensions = {**self.extensions, "more": 1}


def test_what_httpx_makes_differently_is_left_to_httpx():
    assert not responses_as_known(_Stranger)  # type: ignore[arg-type]
    assert not requests_as_known(_Stranger)  # type: ignore[arg-type]


def test_headers_that_are_kept_in_another_way_are_not_known(monkeypatch):
    class Headers(httpx.Headers):
        def __init__(self, *args):
            super().__init__(*args)
            self._more = 1

    class Module(_Stranger):
        pass

    Module.Headers = Headers
    compare(Module)  # type: ignore[arg-type]
    assert Headers not in filled.headers_as_known

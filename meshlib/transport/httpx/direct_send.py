"""Sending without detours: what ``httpx.Client.send`` comes to for a request with which nothing is special.

httpx sends every request through an auth flow, a loop of redirects, hooks and a choice of transports, and reads every body
through the stream it has put around it; most requests have none of that, and it takes as long as half of a call (rows "p50" of
``make bench``). Here such a request goes to the mesh's transport at once, and a response that is whole comes back at once.

Whatever is special takes httpx's own way: auth, hooks, mounts, ``stream=True``, a client that was closed or not yet opened, a
transport that somebody has put in the place of the mesh's, a subclass, and a ``send`` or ``_send_single_request`` that
somebody has patched, as tracers and recorders do. So does every request under a version of httpx that was not compared with
this one (``KNOWN``; ``tests/transport/httpx/test_direct_send.py`` compares), or when ``MESHLIB_PLAIN=1`` is set.
"""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from time import perf_counter
from types import FunctionType
from typing import TYPE_CHECKING

import httpx

from meshlib.transport.httpx.response import WholeResponse
from meshlib.transport.protocol.shortcuts import PLAIN

if TYPE_CHECKING:
    from httpx._client import UseClientDefault
    from httpx._types import AuthTypes

    Base = httpx.Client
    AsyncBase = httpx.AsyncClient
else:
    Base = AsyncBase = object

KNOWN = re.compile(r"0\.2[78]\.\d+")
"""Versions of httpx of whose clients what is written here was compared with their own way; ``make httpx-versions`` does."""
INFO = logging.INFO

log = logging.getLogger("httpx")


def _is_own(function: object) -> bool:
    """Whether this is httpx's own: Sentry, for one, may have been there before us."""
    return type(function) is FunctionType and function.__globals__ is vars(httpx._client)


try:
    from httpx._client import ClientState

    from meshlib.transport.httpx.bound_streams import bound, bound_async
except ImportError:
    possible = False
else:
    possible = KNOWN.fullmatch(httpx.__version__) is not None and not PLAIN
    OPENED = ClientState.OPENED

_Sync, _Async = httpx.Client, httpx.AsyncClient
_SEND, _SINGLE, _FOR_URL = _Sync.send, _Sync._send_single_request, _Sync._transport_for_url
_ASYNC_SEND, _ASYNC_SINGLE, _ASYNC_FOR_URL = _Async.send, _Async._send_single_request, _Async._transport_for_url
possible = possible and all(
    map(_is_own, (_SEND, _SINGLE, _FOR_URL, _ASYNC_SEND, _ASYNC_SINGLE, _ASYNC_FOR_URL)),
)
_DEFAULT = httpx.USE_CLIENT_DEFAULT


def _is_plain(client: httpx.Client | httpx.AsyncClient, request: httpx.Request) -> bool:
    """Whether nothing is special about the client, as far as both kinds have it in common, nor about the request."""
    hooks = client._event_hooks
    return (
        client._state is OPENED
        and client._auth is None
        and not client._mounts
        and not (hooks["request"] or hooks["response"])
        and "timeout" in request.extensions
        and not request.url.userinfo
    )


def _taken(client: httpx.Client | httpx.AsyncClient, request: httpx.Request, response: httpx.Response) -> None:
    """What a client does with every response that has come."""
    if getattr(response, "sets_cookie", True):
        client.cookies.extract_cookies(response)
    response.default_encoding = client._default_encoding
    if log.isEnabledFor(INFO):
        log.info(
            'HTTP Request: %s %s "%s %d %s"',
            request.method,
            request.url,
            response.http_version,
            response.status_code,
            response.reason_phrase,
        )


def _is_whole(response: httpx.Response, began: float) -> bool:
    """Whether the response is there to its last byte, and leads nowhere else: then it is read and closed, as after
    ``read()``."""
    if response.is_redirect and "location" in response.headers:
        return False
    if not isinstance(response, WholeResponse) or response._at_hand() is None:
        return False
    response.elapsed = timedelta(seconds=perf_counter() - began)
    return True


class SendsDirectly(Base):
    """Mixed into ``MeshClient``. ``_direct``: the mesh's transport, None where httpx's own way is always taken."""

    _direct: httpx.BaseTransport | None = None

    def send(
        self,
        request: httpx.Request,
        *,
        stream: bool = False,
        auth: AuthTypes | UseClientDefault | None = _DEFAULT,
        follow_redirects: bool | UseClientDefault = _DEFAULT,
    ) -> httpx.Response:
        """Send a request, as ``httpx.Client.send``."""
        transport = self._direct
        if (
            transport is None
            or stream
            or auth is not _DEFAULT
            or self._transport is not transport
            or _Sync.send is not _SEND
            or _Sync._send_single_request is not _SINGLE
            or _Sync._transport_for_url is not _FOR_URL
            or not _is_plain(self, request)
            or not isinstance(request.stream, httpx.SyncByteStream)
        ):
            return super().send(request, stream=stream, auth=auth, follow_redirects=follow_redirects)
        began = perf_counter()
        try:
            response = transport.handle_request(request)
        except httpx.RequestError as error:
            error.request = request
            raise
        response.request = request
        if _is_whole(response, began):
            _taken(self, request, response)
            return response
        bound(response, began)
        _taken(self, request, response)
        try:
            if response.has_redirect_location:
                following = self._build_redirect_request(request, response)
                if self.follow_redirects if follow_redirects is _DEFAULT else follow_redirects:
                    response.read()
                    response = self._send_handling_redirects(following, follow_redirects=True, history=[response])
                else:
                    response.next_request = following
            response.read()
        except BaseException:
            response.close()
            raise
        return response


class SendsDirectlyAsync(AsyncBase):
    """The same of ``AsyncMeshClient``."""

    _direct: httpx.AsyncBaseTransport | None = None

    async def send(
        self,
        request: httpx.Request,
        *,
        stream: bool = False,
        auth: AuthTypes | UseClientDefault | None = _DEFAULT,
        follow_redirects: bool | UseClientDefault = _DEFAULT,
    ) -> httpx.Response:
        """Send a request, as ``httpx.AsyncClient.send``."""
        transport = self._direct
        if (
            transport is None
            or stream
            or auth is not _DEFAULT
            or self._transport is not transport
            or _Async.send is not _ASYNC_SEND
            or _Async._send_single_request is not _ASYNC_SINGLE
            or _Async._transport_for_url is not _ASYNC_FOR_URL
            or not _is_plain(self, request)
            or not isinstance(request.stream, httpx.AsyncByteStream)
        ):
            return await super().send(request, stream=stream, auth=auth, follow_redirects=follow_redirects)
        began = perf_counter()
        try:
            response = await transport.handle_async_request(request)
        except httpx.RequestError as error:
            error.request = request
            raise
        response.request = request
        if _is_whole(response, began):
            _taken(self, request, response)
            return response
        bound_async(response, began)
        _taken(self, request, response)
        try:
            if response.has_redirect_location:
                following = self._build_redirect_request(request, response)
                if self.follow_redirects if follow_redirects is _DEFAULT else follow_redirects:
                    await response.aread()
                    response = await self._send_handling_redirects(following, follow_redirects=True, history=[response])
                else:
                    response.next_request = following
            await response.aread()
        except BaseException:
            await response.aclose()
            raise
        return response

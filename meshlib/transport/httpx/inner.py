"""Attempts through somebody else's httpx transport: MockTransport, ASGITransport, WSGITransport, respx, a proxy.

It gets the request with the endpoint's address in its URL and the mesh authority in Host.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from meshlib.engine.effects import Send
from meshlib.engine.outcome import Failure, Outcome
from meshlib.httpx_module import module_of_request
from meshlib.problems import said
from meshlib.transport.protocol.framing import Chunked, FalseFraming, Framing, NoBody, framing_of
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.protocol.request_body import ReplayBody, SourceFailed

if TYPE_CHECKING:
    import httpx

    from meshlib.httpx_module import HttpxModule
    from meshlib.transport.httpx.request import HttpxRequest

    class _Either(httpx.SyncByteStream, httpx.AsyncByteStream):
        """What a request's stream is to httpx."""
else:
    _Either = object

_NOT_IN_URLS = re.compile(rb"[^!-~]")


def _as_url(target: bytes) -> bytes:
    """httpx's URLs are ASCII: what a rewrite put in beyond it is percent-encoded here, where the wire would carry it."""
    return _NOT_IN_URLS.sub(lambda byte: b"%%%02X" % byte[0][0], target)


@functools.cache
def _failures(module: HttpxModule) -> tuple[tuple[type[Exception], Failure], ...]:
    return (
        (module.ConnectTimeout, Failure.CONNECT_TIMEOUT),
        (module.PoolTimeout, Failure.POOL_TIMEOUT),
        (module.WriteTimeout, Failure.WRITE_TIMEOUT),
        (module.TimeoutException, Failure.TIMEOUT),
        (module.ConnectError, Failure.CONNECT_FAILED),
        (module.ProxyError, Failure.CONNECT_FAILED),
        (module.LocalProtocolError, Failure.INVALID_REQUEST),
        (module.UnsupportedProtocol, Failure.INVALID_REQUEST),
        (module.RemoteProtocolError, Failure.PROTOCOL_ERROR),
        (module.TransportError, Failure.RESET),
    )


class _Translator:
    """Between the engine's effects and outcomes and an httpx module's requests, responses and exceptions. ``module``: the
    inner transport's; None where it takes whatever its callers use."""

    def __init__(self, module: HttpxModule | None, verbatim: bool) -> None:
        self._module = module
        self._verbatim = verbatim  # it gets the URL as the caller wrote it: it does the dialling

    def module_for(self, effect: Send[HttpxRequest]) -> HttpxModule:
        """Whose request the inner transport is to get."""
        return self._module or module_of_request(effect.call.request.original)

    def request(self, effect: Send[HttpxRequest], module: HttpxModule) -> httpx.Request:
        """The request of one attempt. Raises ``FalseFraming``."""
        request = effect.call.request
        original = request.original
        url = original.url
        if not isinstance(url, module.URL):  # the caller uses the other one
            url = module.URL(str(url))
        if not self._verbatim:
            spec = effect.endpoint.endpoint
            url = url.copy_with(host=spec.address, port=spec.port, raw_path=_as_url(request.target))
        extensions = dict(original.extensions)
        if effect.timeout is not None:
            timeout = dict(extensions.get("timeout") or {})
            reads = timeout.get("read")
            timeout["read"] = effect.timeout if reads is None else min(reads, effect.timeout)
            extensions["timeout"] = timeout
        framing = framing_of(request.attempt_headers(effect.attempt), request.body)
        make, body = module.Request, request.body
        if isinstance(body, ReplayBody):
            stream = _counted(module)(body, framing)
            made = make(original.method, url, headers=framing.headers, extensions=extensions, stream=stream)
        else:
            made = make(original.method, url, headers=framing.headers, extensions=extensions, content=body)
        if isinstance(framing, Chunked):
            made.headers.pop("content-length", None)  # httpx writes one where the body's size is known
        return made

    def failed(self, error: Exception, module: HttpxModule) -> Outcome:
        """The outcome of an exception of the inner transport, or of the request's body."""
        if isinstance(error, FalseFraming):
            return Outcome(Failure.INVALID_REQUEST, str(error), error)
        if isinstance(error, SourceFailed):
            return Outcome(Failure.REQUEST_BODY_FAILED, str(error), error.cause)
        for kind, failure in _failures(module):
            if isinstance(error, kind):
                return Outcome(failure, said(error), error)
        return Outcome(Failure.RESET, said(error), error)

    def outcome_of(self, response: httpx.Response, body: _SyncBody | _AsyncBody) -> Outcome:
        """The outcome of a response of the inner transport."""
        extensions = response.extensions
        outcome = Outcome(
            status=response.status_code,
            reason=response.reason_phrase.encode("latin-1", "replace"),  # httpx's own where the transport tells none
            headers=response.headers.raw,
            http_version=extensions.get("http_version", b"HTTP/1.1"),
            body=body,
        )
        outcome.stream = extensions.get("network_stream")
        return outcome


class SyncInner(_Translator):
    """Blocking."""

    def __init__(self, inner: httpx.BaseTransport, module: HttpxModule | None, verbatim: bool = False) -> None:
        super().__init__(module, verbatim)
        self._inner = inner

    def send(self, effect: Send[HttpxRequest]) -> Outcome:
        """One attempt."""
        module = self.module_for(effect)
        try:
            response = self._inner.handle_request(self.request(effect, module))
        except (module.TransportError, FalseFraming, SourceFailed) as error:
            return self.failed(error, module)
        return self.outcome_of(response, _SyncBody(response.stream, self, module))

    def enter(self) -> None:
        """The client is entered, and its transport with it."""
        self._inner.__enter__()

    def leave(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """The client is left."""
        self._inner.__exit__(kind, error, traceback)

    def close(self) -> None:
        """Close the inner transport."""
        self._inner.close()


class AsyncInner(_Translator):
    """Asyncio."""

    def __init__(self, inner: httpx.AsyncBaseTransport, module: HttpxModule | None, verbatim: bool = False) -> None:
        super().__init__(module, verbatim)
        self._inner = inner

    async def send(self, effect: Send[HttpxRequest]) -> Outcome:
        """One attempt; the head timeout is enforced here, since a mock transport keeps none."""
        module = self.module_for(effect)
        try:
            async with asyncio.timeout(effect.timeout):
                response = await self._inner.handle_async_request(self.request(effect, module))
        except TimeoutError:
            return Outcome(Failure.TIMEOUT, f"no response within {effect.timeout or 0:.3g} s")
        except (module.TransportError, FalseFraming, SourceFailed) as error:
            return self.failed(error, module)
        return self.outcome_of(response, _AsyncBody(response.stream, self, module))

    async def enter(self) -> None:
        """The client is entered, and its transport with it."""
        await self._inner.__aenter__()

    async def leave(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """The client is left."""
        await self._inner.__aexit__(kind, error, traceback)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


class _SyncBody:
    def __init__(
        self, stream: httpx.SyncByteStream | httpx.AsyncByteStream, translator: _Translator, module: HttpxModule
    ) -> None:
        self._stream: httpx.SyncByteStream = stream  # type: ignore[assignment]  # httpx asks the transport for this kind
        self._translator = translator
        self._module = module

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except self._module.TransportError as error:
            outcome = self._translator.failed(error, self._module)
            raise BodyFailed(outcome.failure or Failure.RESET, outcome.detail, error) from error
        self._stream.close()

    def close(self) -> None:
        self._stream.close()

    abort = close


class _AsyncBody:
    def __init__(
        self, stream: httpx.SyncByteStream | httpx.AsyncByteStream, translator: _Translator, module: HttpxModule
    ) -> None:
        self._stream: httpx.AsyncByteStream = stream  # type: ignore[assignment]  # httpx asks the transport for this kind
        self._translator = translator
        self._module = module

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except self._module.TransportError as error:
            outcome = self._translator.failed(error, self._module)
            raise BodyFailed(outcome.failure or Failure.RESET, outcome.detail, error) from error
        await self._stream.aclose()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def abort(self) -> None:
        # closing is a coroutine here: let the loop run it
        task = asyncio.get_running_loop().create_task(self._stream.aclose())
        _closing.add(task)
        task.add_done_callback(_closing.discard)


_closing: set[asyncio.Task[None]] = set()


class CountedStream(_Either):
    """A ReplayBody as an httpx stream, blocking and async at once, that is held to its declared length."""

    def __init__(self, body: ReplayBody, framing: Framing) -> None:
        assert not isinstance(framing, NoBody)
        self._body = body
        self._framing = framing

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._body:
            self._framing.count(len(piece))
            yield piece
        self._framing.finish()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._body:
            self._framing.count(len(piece))
            yield piece
        self._framing.finish()


@functools.cache
def _counted(module: HttpxModule) -> type[CountedStream]:
    return type("CountedStream", (CountedStream, module.SyncByteStream, module.AsyncByteStream), {})

"""Bodies of responses that are still on their way: httpx's streams, with which the exchange ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.drivers import finish
from meshlib.engine.message import is_awaited, is_blocking
from meshlib.engine.outcome import Outcome
from meshlib.transport.httpx.errors import call_error
from meshlib.transport.protocol.http1 import BodyFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import httpx
    from httpx import AsyncByteStream, SyncByteStream

    from meshlib.engine.call import Call
    from meshlib.engine.effects import Exchange
    from meshlib.httpx_module import HttpxModule
    from meshlib.transport.httpx.request import HttpxRequest
else:
    AsyncByteStream = SyncByteStream = object  # of whichever module, see ``transports``


class _Body:
    """``exchange`` is watched, and has delivered its response."""

    _module: HttpxModule

    def __init__(
        self, outcome: Outcome, call: Call[HttpxRequest], exchange: Exchange[HttpxRequest], request: httpx.Request
    ) -> None:
        self._body = outcome.body
        self._call = call
        self._exchange: Exchange[HttpxRequest] | None = exchange
        self._request = request

    def _end(self, error: BodyFailed | None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            finish(exchange, error.failure if error is not None else None)
        if error is not None:
            failed = Outcome(error.failure, error.detail, error)
            raise call_error(failed, self._call, self._request, self._module) from error

    def _drop(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.close()


class SyncBodyStream(_Body, SyncByteStream):
    """Blocking."""

    def __iter__(self) -> Iterator[bytes]:
        try:
            body = self._body
            assert is_blocking(body)
            call = self._call
            call.streamed = 0
            for chunk in body:
                call.streamed += len(chunk)
                yield chunk
        except BodyFailed as error:
            self._end(error)
        self._end(None)

    def close(self) -> None:
        """Read no more."""
        body = self._body
        assert is_blocking(body)
        body.close()
        self._drop()


class AsyncBodyStream(_Body, AsyncByteStream):
    """On an event loop."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            body = self._body
            assert is_awaited(body)
            call = self._call
            call.streamed = 0
            async for chunk in body:
                call.streamed += len(chunk)
                yield chunk
        except BodyFailed as error:
            self._end(error)
        self._end(None)

    async def aclose(self) -> None:
        """Read no more."""
        self._drop()
        body = self._body
        assert is_awaited(body)
        await body.aclose()

"""Request bodies that can be sent again.

A streamed body is remembered while it is sent, up to Envoy's 1 MiB; within that, a retry replays it from the start. Past
it the memory is dropped and the call can no longer be retried.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any

from meshlib.policy.header_ops import RawHeaders

REPLAY_LIMIT = 1024 * 1024
CONTINUE_SECONDS = 1.0
"""How long a server is waited for that was asked with ``Expect: 100-continue``; then the body is sent anyway."""


class SourceFailed(Exception):
    """The caller's own body iterator raised; ``cause`` is what."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"the request body raised {type(cause).__name__}: {cause}")
        self.cause = cause


class ReplayBody:
    """A one-shot source (iterator of bytes, blocking or async) that several attempts can read from the start."""

    __slots__ = ("_kept", "_limit", "_source", "ended", "replayable", "size")

    duplex = False
    """Whether the response may come while it is still read, and its head is not kept until the body is over: of clients of a
    proxy."""

    @property
    def trailers(self) -> RawHeaders:
        """What follows the body, known at its end; HTTP/1.1 has no place for it."""
        return []

    def __init__(self, source: Any, limit: int = REPLAY_LIMIT) -> None:
        self._source = source
        self._limit = limit
        self._kept: list[bytes] = []
        self.size = 0
        """Bytes that the source has given so far."""
        self.ended = False
        self.replayable = True

    def _keep(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if not self.replayable:
            return
        if self.size > self._limit:
            self.replayable = False
            self._kept.clear()
        else:
            self._kept.append(chunk)

    def _replay(self) -> list[bytes]:
        return list(self._kept)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._replay()
        while not self.ended:
            try:
                chunk = next(self._source)
            except StopIteration:
                self.ended = True
                return
            except Exception as error:
                self.ended = True
                self.replayable = False
                raise SourceFailed(error) from error
            if chunk:
                self._keep(chunk)
                yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._replay():
            yield chunk
        while not self.ended:
            try:
                chunk = await anext(self._source)
            except StopAsyncIteration:
                self.ended = True
                return
            except Exception as error:
                self.ended = True
                self.replayable = False
                raise SourceFailed(error) from error
            if chunk:
                self._keep(chunk)
                yield chunk


class Bodied:
    """What a request knows of its ``body`` by what that is: None, all its bytes, or what keeps it while it is sent."""

    __slots__ = ()

    body: bytes | ReplayBody | None

    def body_bytes(self) -> int:
        """As much of its body as has been seen."""
        body = self.body
        return 0 if body is None else len(body) if isinstance(body, bytes) else body.size

    @property
    def replayable(self) -> bool:
        """Whether another attempt can send the same body."""
        body = self.body
        return body is None or isinstance(body, bytes) or bool(body.replayable)

    @property
    def whole(self) -> bool:
        """Whether all of the body is at hand already."""
        body = self.body
        return body is None or isinstance(body, bytes) or bool(body.ended)

    @property
    def sent(self) -> bool:
        """Whether all of the body has been seen by now, so that a copy of it can be sent elsewhere."""
        return self.whole


class DuplexBody(ReplayBody):
    """A body that is read while the response may come already."""

    __slots__ = ()

    duplex = True


def body_of(request: Any, sync: bool, module: ModuleType) -> bytes | ReplayBody | None:
    """The body of an httpx request: None, all its bytes, or a stream that remembers itself."""
    try:
        return request.content or None
    except module.RequestNotRead:
        stream = request.stream
        if isinstance(stream, module.ByteStream):  # at hand, as of the request that follows a redirect
            return b"".join(stream) or None
        return ReplayBody(iter(stream) if sync else stream.__aiter__())

"""A channel of grpc.aio behind the interface of a blocking one, so that the same calls go through both."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import grpc


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="aio side")
        self._thread.start()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _rest(self) -> None:
        """What closed channels still have to do."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    def close(self) -> None:
        self.run(self._rest())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()


class Ended(grpc.RpcError):
    """A call that has ended, well or badly: what perform() asks of it."""

    def __init__(self, messages: list[Any], code: Any, details: str | None, initial: Any, trailing: Any) -> None:
        super().__init__()
        self._messages = messages
        self.code = lambda: code
        self.details = lambda: details
        self.initial_metadata = lambda: initial
        self.trailing_metadata = lambda: trailing

    def __iter__(self) -> Iterator[Any]:
        yield from self._messages
        if self.code() is not grpc.StatusCode.OK:
            raise self


async def _call(multi: Any, request: Any, streams_out: bool, metadata: Any, timeout: float | None) -> Ended:
    messages: list[Any] = []
    call = multi(request, metadata=metadata, timeout=timeout)
    try:
        if streams_out:
            async for message in call:
                messages.append(message)
        else:
            messages.append(await call)
    except grpc.RpcError as error:
        # an AioRpcError has all four as plain methods
        told: Any = error
        return Ended(messages, told.code(), told.details(), told.initial_metadata(), told.trailing_metadata())
    metadata_of = (await call.initial_metadata(), await call.trailing_metadata())
    return Ended(messages, await call.code(), await call.details(), *metadata_of)


class AioChannel:
    """The blocking face of a ``grpc.aio.Channel``."""

    def __init__(self, loop: Loop, channel: Any) -> None:
        self._loop = loop
        self._channel = channel

    def __getattr__(self, kind: str) -> Any:
        """``unary_unary`` and so on."""
        make = getattr(self._channel, kind)
        streams_out = kind.endswith("_stream")

        def multicallable(path: str, **serializers: Any) -> Any:
            async def made() -> Any:
                return make(path, **serializers)

            return _Blocking(self._loop, self._loop.run(made()), streams_out)

        return multicallable

    def close(self) -> None:
        self._loop.run(self._channel.close())


class _Blocking:
    def __init__(self, loop: Loop, multi: Any, streams_out: bool) -> None:
        self._loop = loop
        self._multi = multi
        self._streams_out = streams_out

    def __call__(self, request: Any, *, metadata: Any, timeout: float | None) -> Ended:
        ended: Ended = self._loop.run(_call(self._multi, request, self._streams_out, metadata, timeout))
        return ended

    def with_call(self, request: Any, *, metadata: Any, timeout: float | None) -> tuple[Any, Ended]:
        ended = self(request, metadata=metadata, timeout=timeout)
        return next(iter(ended), None), ended

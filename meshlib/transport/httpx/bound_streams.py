"""The stream that httpx's clients put around a response's own, which tells the response at its end how long it took: as httpx
0.28 makes it, and as 0.27 did, which counted with an object of its own and on a loop by the loop's clock.

Raises ImportError at import under a version of httpx that has neither.
"""

from __future__ import annotations

import asyncio
import inspect
from time import perf_counter
from typing import TYPE_CHECKING, Any

from httpx._client import BoundAsyncStream, BoundSyncStream

if TYPE_CHECKING:
    import httpx

_arguments = tuple(inspect.signature(BoundSyncStream).parameters)

if _arguments == ("stream", "response", "start"):

    def bound(response: httpx.Response, began: float) -> None:
        """Put the stream of a blocking client around ``response``'s. ``began``: by ``perf_counter``, when it was sent."""
        response.stream = BoundSyncStream(response.stream, response=response, start=began)  # type: ignore[arg-type]

    def bound_async(response: httpx.Response, began: float) -> None:
        """The same of a client on an event loop."""
        response.stream = BoundAsyncStream(response.stream, response=response, start=began)  # type: ignore[arg-type]

elif _arguments == ("stream", "response", "timer"):
    import httpx._utils

    make_sync: Any = BoundSyncStream
    make_async: Any = BoundAsyncStream
    make_timer: Any = httpx._utils.Timer  # type: ignore[attr-defined]

    def bound(response: httpx.Response, began: float) -> None:
        timer = make_timer()
        timer.started = began
        response.stream = make_sync(response.stream, response=response, timer=timer)

    def bound_async(response: httpx.Response, began: float) -> None:
        timer = make_timer()
        timer.started = asyncio.get_running_loop().time() - (perf_counter() - began)
        response.stream = make_async(response.stream, response=response, timer=timer)

else:
    raise ImportError(f"the streams of httpx's clients take {', '.join(_arguments)}, which is not known here")

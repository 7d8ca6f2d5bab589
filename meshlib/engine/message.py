"""The message that the engine acts on, the same for httpx, gRPC and what is to come: a request, its body, a response's body.

A door makes one object a call out of what its library hands in; policies read it, rules change it, runtimes send it.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, Self, TypeGuard

from meshlib.policy.header_ops import RawHeaders
from meshlib.policy.http_match import RequestView

if TYPE_CHECKING:
    from meshlib.engine.wanted_headers import Values, WantedHeaders


class RequestBody(Protocol):
    """What follows a request's head and is not at hand as bytes: it comes in pieces while it is sent."""

    @property
    def replayable(self) -> bool:
        """Whether another attempt can send the same body from its beginning."""
        ...

    @property
    def ended(self) -> bool:
        """Whether all of it has come."""
        ...


class ResponseBody(Protocol):
    """What follows a response's head and has not come with it. Its runtime knows how to read it."""

    def abort(self) -> None:
        """Give it up, unread: its connection is closed, or its stream reset."""
        ...


class BlockingBody(ResponseBody, Protocol):
    """One that a thread reads."""

    def __iter__(self) -> Iterator[bytes]: ...
    def close(self) -> None:
        """Read no further."""
        ...


class AwaitedBody(ResponseBody, Protocol):
    """One that a task reads."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None:
        """Read no further."""
        ...


def is_blocking(body: ResponseBody | None) -> TypeGuard[BlockingBody]:
    """Whether a body is one that a thread reads."""
    return isinstance(body, Iterable)


def is_awaited(body: ResponseBody | None) -> TypeGuard[AwaitedBody]:
    """Whether a body is one that a task reads."""
    return isinstance(body, AsyncIterable)


class HeadersMet(Protocol):
    """What is known of headers that came before."""

    @property
    def headers(self) -> RawHeaders:
        """They. Never changed in place."""
        ...


class Request(RequestView, Protocol):
    """A request on its way. What ``RequestView`` shows is the request as it came; ``target`` and ``headers`` are as it is
    sent, which rules change."""

    protocol: str
    """"http" or "grpc", as Istio's metrics name it."""
    multiplexed: bool
    """Whether any number of calls share a connection whatever the cluster says, so that none waits for a slot."""
    target: bytes
    """What stands in the request line: path and query."""

    @property
    def headers(self) -> RawHeaders:
        """As they are sent, without the number of the attempt. A door may hold a raw head, and make the list only now: ask only
        where a rule, a mirror or a match needs it."""
        ...

    @headers.setter
    def headers(self, headers: RawHeaders) -> None: ...

    @property
    def alike(self) -> HeadersMet | None:
        """What requests of HTTP that came with the same headers have in common. As long as ``headers`` are those of it, they
        are sent with the same, too (no rule has put others in their place). None: nobody knows."""
        ...

    @property
    def names(self) -> bytes | None:
        """Of a request that is not ``alike``: the names of its headers as they came, in lower case, a line end between two. It
        has them as ``received`` then, which is the same list as ``headers`` while no rule has put others in their place.
        None: nobody has put them together."""
        ...

    def sent_header(self, name: str) -> str | None:
        """Value of a header as it is sent (``name`` in lower case), repeated ones joined with ","; None when absent."""
        ...

    def sent_values(self, wanted: WantedHeaders) -> Values:
        """The same of several headers at once, in their order."""
        ...

    def sent_bytes(self) -> int:
        """Bytes of the request, as it is sent: method, target, names and values of headers, and as much of the body as has
        been seen."""
        ...

    def body_bytes(self) -> int:
        """What of those is of the body: for gRPC messages, with what frames them."""
        ...

    @property
    def replayable(self) -> bool:
        """Whether another attempt can send the same body."""
        ...

    @property
    def whole(self) -> bool:
        """Whether all of the body is at hand already (and the response is a single message), so that copies of the request may
        start beside it."""
        ...

    @property
    def sent(self) -> bool:
        """Whether all of the body has been seen by now, so that a copy of it can be sent elsewhere."""
        ...

    def count_first(self) -> RawHeaders:
        """The headers with the number of the first attempt in them, where Envoy puts it: before what rules add."""
        ...

    def set_deadline(self, header: str, seconds: float) -> None:
        """Say in ``header`` how much time is left."""
        ...

    def shadow(self) -> Self:
        """The same request for a mirror: ``-shadow`` on its host, before the port."""
        ...


if TYPE_CHECKING:
    from typing_extensions import TypeVar  # with a default, which typing has from 3.13 on

    R = TypeVar("R", bound=Request, default=Request, covariant=True)
else:
    from typing import TypeVar

    R = TypeVar("R")

"""What grpcio is to meshlib, where its own stubs do not say: names for what callers hand in, and protocols for the objects that
are called. Messages are the caller's: only their (de)serializers know their types."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import grpc
    from grpc import aio

    from meshlib.engine.explanation import Exchange

Req = TypeVar("Req")
Resp = TypeVar("Resp")
Value = str | bytes
Metadata = Collection[tuple[str, Value]]
"""As callers hand it in: pairs in any sequence, or a ``grpc.aio.Metadata``."""
Pairs = tuple[tuple[str, Value], ...]
Serializer = Callable[[Req], bytes]
Deserializer = Callable[[bytes], Resp]
Options = Sequence[tuple[str, object]]
"""Channel options, as grpcio takes them."""


class RequestMessages(Protocol):
    """A stream of request messages, kept so that another attempt can send them again (``requests.py``)."""

    @property
    def error(self) -> BaseException | None:
        """What the caller's iterator, or its serializer, has raised."""
        ...

    @property
    def replayable(self) -> bool:
        """Whether another attempt can send all of them."""
        ...

    @property
    def whole(self) -> bool:
        """Whether all of them are here."""
        ...

    def seen(self) -> tuple[int, int]:
        """How many of them have come so far, and their bytes."""
        ...

    def commit(self) -> None:
        """There will be no other attempt."""
        ...

    def over(self) -> None:
        """The call has ended."""
        ...

    def copy(self) -> RequestMessages:
        """The same messages, and those to come, for a mirror."""
        ...


class ThreadMessages(RequestMessages, Protocol):
    """Of threads."""

    def attempt(self) -> Iterator[bytes]:
        """All messages from the first one, serialized, for a new attempt."""
        ...

    def copy(self) -> ThreadMessages: ...


class LoopMessages(RequestMessages, Protocol):
    """Of asyncio."""

    def attach(self, inner: LoopCall) -> None:
        """A new attempt takes the messages."""
        ...

    async def send_to(self, call: LoopCall) -> object:
        """Attach, and wait for the single response."""
        ...

    def copy(self) -> LoopMessages: ...


Messages = TypeVar("Messages", bound=RequestMessages, covariant=True)


class ThreadCall(Protocol):
    """grpcio's call of threads, under way or ended; iterated if its response is a stream. Its exceptions are their calls,
    and so are the mesh's own."""

    exchange: Exchange | None
    initial_metadata: Callable[[], Metadata]
    trailing_metadata: Callable[[], Metadata]

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    def debug_error_string(self) -> str | None: ...
    def result(self) -> object: ...
    def cancel(self) -> bool: ...
    def add_callback(self, callback: Callable[[], None]) -> bool: ...
    def add_done_callback(self, fn: Callable[[ThreadCall], None]) -> None: ...
    def __iter__(self) -> Iterator[object]: ...
    def __next__(self) -> object: ...


class ThreadMultiCallable(Protocol):
    """grpcio's multicallable of threads. ``with_call`` and ``future`` where the response is a single one."""

    @property
    def with_call(self) -> Callable[..., tuple[object, ThreadCall]]: ...
    @property
    def future(self) -> Callable[..., ThreadCall]: ...

    def __call__(
        self,
        request: object,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> object: ...


class LoopCall(Protocol):
    """grpcio's call under way, of asyncio: awaited if its response is a single one, iterated if it is a stream."""

    def cancel(self) -> bool: ...
    def done(self) -> bool: ...
    def time_remaining(self) -> float | None: ...
    def add_done_callback(self, callback: Callable[[LoopCall], None]) -> None: ...
    def __await__(self) -> Generator[object, None, object]: ...
    def __aiter__(self) -> AsyncIterator[object]: ...
    async def code(self) -> grpc.StatusCode: ...
    async def details(self) -> str: ...
    async def debug_error_string(self) -> str: ...
    async def initial_metadata(self) -> aio.Metadata: ...
    async def trailing_metadata(self) -> aio.Metadata: ...
    async def wait_for_connection(self) -> None: ...
    async def write(self, request: bytes) -> None: ...
    async def done_writing(self) -> None: ...


class LoopMultiCallable(Protocol):
    """grpcio's multicallable of asyncio."""

    def __call__(
        self,
        request: bytes | None = None,
        *,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        compression: grpc.Compression | None = None,
    ) -> LoopCall: ...


class EndpointChannel(Protocol):
    """grpcio's channel to an endpoint. ``subscribe`` and ``unsubscribe`` are those of threads, ``get_state`` and
    ``wait_for_state_change`` those of asyncio, where ``close`` is a coroutine."""

    unary_unary: Callable[..., object]
    unary_stream: Callable[..., Any]

    def close(self) -> Coroutine[object, object, None]: ...
    def subscribe(self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool = False) -> None: ...
    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None: ...
    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity: ...
    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None: ...


def ended_call(error: BaseException) -> ThreadCall:
    """grpcio's exception as the call that it is, though its stubs do not say so."""
    return error  # type: ignore[return-value]


def raised(call: ThreadCall) -> BaseException:
    """And back: a call that has failed, as what is raised."""
    return call  # type: ignore[return-value]

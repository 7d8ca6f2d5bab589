"""What checks change of a call: the handler finds it in ``invocation_metadata()``, and its caller in the initial
metadata.

Only calls of which a check has changed something have a context of ours. The initial metadata goes when grpcio would
send it: with the handler's own, if it sends some, else before its first response.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from meshlib.transport.grpcio.metadata import from_raw, to_raw
from meshlib.transport.grpcio.server.context_proxy import ContextProxy

if TYPE_CHECKING:
    import grpc

    from meshlib.engine.inbound import InboundCall
    from meshlib.policy.header_ops import RawHeaders
    from meshlib.policy.refusal import Refusal
    from meshlib.transport.grpcio.contracts import Pairs, Value
    from meshlib.transport.grpcio.server.served import Context

_NAME = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")


class Metadatum(NamedTuple):
    """As grpcio's own, but that it does not show its value: that may be a token, or what a token says."""

    key: str
    value: Value

    def __repr__(self) -> str:
        return f"Metadatum(key={self.key!r})"


def metadata_of(headers: Sequence[tuple[bytes, bytes]]) -> Pairs:
    """Headers as metadata: what gRPC has no place for is left out, as grpcio would fail the whole call for it."""
    return tuple(
        Metadatum(name, value)
        for name, value in from_raw(list(headers))
        if _NAME.fullmatch(name)
        and not name.startswith("grpc-")
        and (isinstance(value, bytes) or _VALUE.fullmatch(value) is not None)
    )


def refused_metadata(call: InboundCall, refusal: Refusal) -> Pairs:
    """What comes to the caller beside a refusal: with its status, as there is nothing else."""
    return metadata_of(call.request.response_headers(refusal.headers))


class Changed(ContextProxy):
    """A context of which checks have changed something."""

    __slots__ = ("_metadata", "_more")

    def __init__(self, context: Context, call: InboundCall) -> None:
        super().__init__(context)
        request = call.request
        self._more: Pairs = metadata_of(request.response_headers(()))
        self._metadata = context.invocation_metadata()
        if request.for_application is not None:
            came: RawHeaders = to_raw(self._metadata or ())
            self._metadata = metadata_of(request.for_application.applied(came))

    def invocation_metadata(self) -> Pairs | None:
        """What the caller has sent, as checks have left it."""
        return self._metadata

    def take_more(self) -> Pairs:
        """What the caller is still to get."""
        more, self._more = self._more, ()
        return more


class ThreadChanged(Changed):
    """In threads, and in plain functions of asyncio servers."""

    __slots__ = ()

    def send_initial_metadata(self, initial_metadata: Pairs) -> None:
        """As ``grpc.ServicerContext``'s."""
        self._context.send_initial_metadata((*self.take_more(), *initial_metadata))

    def responding(self) -> None:
        """The handler is about to respond."""
        more = self.take_more()
        if more and self._context.is_active():
            self._context.send_initial_metadata(more)

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """As ``grpc.ServicerContext``'s."""
        self.responding()
        self._context.abort(code, details)
        raise AssertionError("abort raises")

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """As ``grpc.ServicerContext``'s."""
        self.responding()
        self._context.abort_with_status(status)
        raise AssertionError("abort raises")


class LoopChanged(Changed):
    """On asyncio."""

    __slots__ = ()

    async def send_initial_metadata(self, initial_metadata: Pairs) -> None:
        """As ``grpc.aio.ServicerContext``'s."""
        await self._context.send_initial_metadata((*self.take_more(), *initial_metadata))

    async def responding(self) -> None:
        """The handler is about to respond."""
        more = self.take_more()
        if more:
            await self._context.send_initial_metadata(more)

    async def write(self, message: object) -> None:
        """As ``grpc.aio.ServicerContext``'s."""
        await self.responding()
        await self._context.write(message)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Pairs = ()) -> None:
        """As ``grpc.aio.ServicerContext``'s: raises."""
        await self.responding()
        await self._context.abort(code, details, trailing_metadata)

    async def abort_with_status(self, status: grpc.Status) -> None:
        """As ``grpc.aio.ServicerContext``'s: raises."""
        await self.responding()
        await self._context.abort_with_status(status)


def about_to_respond(context: object) -> None:
    """The handler of this context, in a thread, is about to respond."""
    if type(context) is ThreadChanged:
        context.responding()


async def about_to_respond_async(context: object) -> None:
    """The same of one on asyncio."""
    if type(context) is LoopChanged:
        await context.responding()


def is_changed(call: InboundCall) -> bool:
    """Whether a check has changed something that the handler or the caller sees."""
    return call.request.for_application is not None or call.request.changes_response

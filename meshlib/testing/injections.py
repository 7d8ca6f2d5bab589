"""What chaos does to an attempt: outcomes in the words of the real ones, and responses that are cut."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Final

from meshlib.engine.message import is_awaited, is_blocking
from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.upstream.problems import BODY_CUT, body_broke, broke

if TYPE_CHECKING:
    from meshlib.engine.effects import Send

INJECTED: Final = "injected by meshlib.testing"
NO_BODY: Final = frozenset((101, 204, 304))
GRPC: Final = "meshlib.transport.grpcio.client.outcome"
"""The module of what an attempt of gRPC comes to: loaded where there are any."""


def down(send: Send) -> Outcome:
    """Nobody listens at the endpoint."""
    refused = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    return _failed(Failure.CONNECT_FAILED, f"no connection to {send.endpoint.key}: {refused.strerror}", refused)


def dns_failure(send: Send) -> Outcome:
    """The endpoint's name is not found."""
    host = send.endpoint.key.rpartition(":")[0]
    return _failed(Failure.CONNECT_FAILED, f"the name {host} was not found: Name or service not known")


def expired_certificate(send: Send) -> Outcome:
    """The server's certificate has expired: the handshake fails, and nothing is sent."""
    where = f"TLS to {send.endpoint.key}"
    return _failed(Failure.CONNECT_FAILED, f"{where}: the server's certificate is not trusted: certificate has expired")


def reset(_send: Send) -> Outcome:
    """The connection breaks before the response begins."""
    outcome = broke(_reset_by_peer(), stale=False)
    return _failed(Failure.RESET, outcome.detail, outcome.error)


def cut(after: int, clean: bool, send: Send | None = None) -> Callable[[Outcome], Outcome]:
    """Cuts a response after so many bytes of its body (a stream of gRPC: messages); ``clean``: the server closes the
    connection, and does not reset it."""
    detail = f"{BODY_CUT if clean else body_broke(_reset_by_peer())} ({INJECTED})"

    def change(outcome: Outcome) -> Outcome:
        if send is not None and _streams(send):
            from meshlib.testing.grpc_streams import cut_stream

            return cut_stream(outcome, after, send.call.messages, detail)
        if _is_grpc(outcome):
            return _ended_in_the_middle(outcome, detail)
        if outcome.whole == b"" or outcome.status in NO_BODY:
            return outcome  # there is nothing to cut
        outcome.body, outcome.whole = CutBody(outcome, after, detail), None
        return outcome

    return change


def lose(send: Send) -> Callable[[Outcome], Outcome]:
    """The server has done its work, and the connection breaks before it can say so."""

    def change(outcome: Outcome) -> Outcome:
        outcome.drop()
        if _is_grpc(outcome) and _streams(send):
            from meshlib.testing.grpc_streams import give_up

            give_up(outcome)
        return reset(send)

    return change


def _reset_by_peer() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


def _failed(failure: Failure, detail: str, error: BaseException | None = None) -> Outcome:
    return Outcome(failure, f"{detail} ({INJECTED})", error)


def _streams(send: Send) -> bool:
    """Whether its response is a stream of gRPC."""
    called = getattr(send.call.request, "method_called", None)
    return called is not None and bool(called.streaming)


def _is_grpc(outcome: Outcome) -> bool:
    loaded = sys.modules.get(GRPC)
    return loaded is not None and isinstance(outcome, loaded.GrpcOutcome)


def _ended_in_the_middle(outcome: Outcome, detail: str) -> Outcome:
    """The end of a unary call of gRPC whose connection broke when the server had begun to respond: nothing is retried then,
    as in Envoy."""
    from meshlib.transport.grpcio.client.errors import CODES, RpcFailed
    from meshlib.transport.grpcio.client.outcome import UNAVAILABLE, GrpcOutcome

    ended = RpcFailed(CODES[UNAVAILABLE], detail, (), None)
    return GrpcOutcome(None, ended, UNAVAILABLE, ended)


class CutBody:
    """The beginning of a body, for whichever runtime reads it; raises ``BodyFailed`` where it ends."""

    def __init__(self, outcome: Outcome, after: int, detail: str) -> None:
        self._whole = outcome.whole
        self._body = outcome.body
        self._left = after
        self._detail = detail

    def _kept(self, part: bytes) -> bytes:
        kept = part[: self._left]
        self._left -= len(kept)
        return kept

    def __iter__(self) -> Iterator[bytes]:
        body = self._body
        parts = iter((self._whole or b"",)) if body is None else iter(body) if is_blocking(body) else iter(())
        for part in parts:
            if kept := self._kept(part):
                yield kept
            if not self._left:
                break
        self.abort()
        raise BodyFailed(Failure.RESET, self._detail)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body = self._body
        if body is None:
            if kept := self._kept(self._whole or b""):
                yield kept
        elif is_awaited(body):
            async for part in body:
                if kept := self._kept(part):
                    yield kept
                if not self._left:
                    break
        self.abort()
        raise BodyFailed(Failure.RESET, self._detail)

    def abort(self) -> None:
        """Give it up, and what is behind it."""
        if self._body is not None:
            self._body.abort()

    def close(self) -> None:
        """Read no further."""
        self.abort()

    async def aclose(self) -> None:
        """Read no further."""
        self.abort()

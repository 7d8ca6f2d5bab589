"""What a caller is shown of an attempt that has ended: grpcio's own call object, with the mesh's ``exchange`` on it, and with
the metadata that the rule's header operations made of the server's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.policy.unsigned import unsigned
from meshlib.transport.grpcio.client.errors import CODES, RpcFailed
from meshlib.transport.grpcio.contracts import Value, ended_call, raised
from meshlib.transport.grpcio.metadata import from_raw

if TYPE_CHECKING:
    from meshlib.engine.explanation import Exchange
    from meshlib.transport.grpcio.client.outcome import GrpcOutcome
    from meshlib.transport.grpcio.contracts import Pairs, ThreadCall


class Metadatum(tuple[str, Value]):
    """A pair with names, as grpcio gives."""

    __slots__ = ()

    key = property(lambda self: self[0])
    value = property(lambda self: self[1])


def with_metadata(inner: ThreadCall, outcome: GrpcOutcome, record: Exchange) -> ThreadCall:
    """``inner`` with ``exchange``, and with the changed metadata if a rule changed any; another object when the rule has
    changed the very status."""
    inner.exchange = record
    if outcome.told_headers:
        changed = tuple(Metadatum(pair) for pair in from_raw(outcome.headers))
        # on the object itself: it has to stay the exception, or the call, that grpcio's users know
        if outcome.grpc_status is None:
            inner.initial_metadata = lambda: changed
        else:
            inner.trailing_metadata = lambda: changed
            return _with_status(inner, outcome, record, changed)
    return inner


def error_with_metadata(error: BaseException, outcome: GrpcOutcome, record: Exchange) -> BaseException:
    """The same of grpcio's exception, which is its call, too."""
    return raised(with_metadata(ended_call(error), outcome, record))


def _with_status(inner: ThreadCall, outcome: GrpcOutcome, record: Exchange, changed: Pairs) -> ThreadCall:
    """Rules may set grpc-status and grpc-message of a response that is nothing but a status."""
    headers = dict(outcome.headers)
    status = unsigned(headers.get(b"grpc-status", b"").decode("latin-1"))
    message = headers.get(b"grpc-message", b"").decode("utf-8", "replace")
    code = status if status in CODES else outcome.code
    if not code or (code == outcome.code and message == (inner.details() or "")):
        return inner
    record.grpc_status = code
    return ended_call(RpcFailed(CODES[code], message, changed, record))

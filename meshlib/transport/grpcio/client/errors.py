"""What a gRPC call raises when the mesh, and not the server, ended it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import grpc
from grpc.aio import AioRpcError, Metadata

from meshlib.engine import replies
from meshlib.engine.actions import change_own_response
from meshlib.engine.outcome import Failure, Outcome
from meshlib.engine.wrong_address import connect_detail
from meshlib.errors import CallError
from meshlib.policy.grpc_status import grpc_of_http
from meshlib.transport.grpcio.client.outcome import (
    DEADLINE_EXCEEDED,
    INTERNAL,
    OK,
    RESOURCE_EXHAUSTED,
    UNKNOWN,
    GrpcOutcome,
)
from meshlib.transport.grpcio.metadata import from_raw

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from meshlib.engine.call import Call
    from meshlib.engine.explanation import Exchange
    from meshlib.transport.grpcio.client.request import AnyRequest
    from meshlib.transport.grpcio.contracts import Pairs

CODES = {code.value[0]: code for code in grpc.StatusCode}


class RpcFailed(CallError, AioRpcError, grpc.Call, grpc.Future):
    """A call that the mesh ended: no endpoint, an injected fault, a timeout, a broken connection and no retry left.

    It is what callers of grpcio catch (``grpc.RpcError``, ``grpc.aio.AioRpcError``) and what they ask (``code()``,
    ``details()``, ``trailing_metadata()``). ``details()`` begins with Envoy's words; then, in parentheses, the mesh's
    reason. The trailing metadata has ``meshlib-flags``, ``meshlib-route`` and ``meshlib-reason``.
    """

    def __init__(self, code: grpc.StatusCode, details: str, trailing: Pairs, record: Exchange | None) -> None:
        AioRpcError.__init__(self, code, Metadata(), Metadata(*trailing), details, details)
        self.exchange = record

    # -- grpc.Call, grpc.Future: a call that is over ------------------------------------------------------------------

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float | None:
        return None

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def running(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def result(self, timeout: float | None = None) -> NoReturn:
        raise self

    def exception(self, timeout: float | None = None) -> BaseException:
        return self

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        return self.__traceback__

    def add_done_callback(self, fn: Callable[[RpcFailed], None]) -> None:
        fn(self)


CALLERS_MISTAKES = (TypeError, ValueError)
"""What grpcio raises for arguments that it cannot take."""


def error_of(outcome: Outcome, call: Call[AnyRequest]) -> RpcFailed | TypeError | ValueError:
    """The exception for what a policy responded with or the network did, a ``RpcFailed`` (or, of arguments that grpcio cannot
    take, what it raised); notes the status in the call's record."""
    record = call.record
    code, details = _status(outcome, call)
    record.status = 200 if outcome.failure is None or outcome.failure in replies.FLAG_OF_FAILURE else 0
    record.grpc_status = code
    if outcome.failure is Failure.INVALID_REQUEST and isinstance(outcome.error, CALLERS_MISTAKES):
        return outcome.error
    why = reason(outcome, call)
    extra = () if outcome.failure is not None else from_raw(outcome.headers)
    trailing = (
        *((name, value) for name, value in extra if name not in ("content-length", "content-type")),
        ("meshlib-flags", record.flags),
        ("meshlib-route", route_of(record)),
        ("meshlib-reason", _ascii(why)),
    )
    made = RpcFailed(CODES[code], f"{details} ({why})" if details else f"({why})", trailing, record)
    made.__cause__ = outcome.error
    return made


def ok_without_message(outcome: Outcome, call: Call[AnyRequest]) -> GrpcOutcome | None:
    """A policy's response with the status OK (an abort fault may name it): the call succeeds, without any message."""
    if type(outcome) is GrpcOutcome or outcome.grpc_status != OK or outcome.failure is not None:
        return None
    ended = error_of(outcome, call)
    return GrpcOutcome(None, ended, at_once=True)


def _status(outcome: Outcome, call: Call[AnyRequest]) -> tuple[int, str]:
    failure = outcome.failure
    record = call.record
    if failure is None:
        text = (outcome.whole or b"").decode("utf-8", "replace")
        code = outcome.grpc_status if outcome.grpc_status is not None else grpc_of_http(outcome.status)
        return code, text
    if failure is Failure.TIMEOUT and _callers_own(call):
        return DEADLINE_EXCEEDED, "Deadline Exceeded"
    if failure is Failure.INVALID_REQUEST:
        return (RESOURCE_EXHAUSTED if "message larger" in outcome.detail else INTERNAL), outcome.detail
    if failure is Failure.REQUEST_BODY_FAILED:
        return UNKNOWN, "Exception iterating requests!"
    response = change_own_response(call, replies.for_failure(outcome, len(record.attempts) > 1))
    text = (response.whole or b"").decode()
    if failure is Failure.RESET and "RST_STREAM" in outcome.detail:
        text = text.replace("connection termination", "remote reset")
    return grpc_of_http(response.status), text


def _callers_own(call: Call[AnyRequest]) -> bool:
    """Whether the time that passed was the caller's: its own deadline, or that of the request it is serving."""
    if "DC" in call.record.flags:
        return True
    patience = call.timeouts.read
    return patience is not None and call.clock.monotonic() >= call.record.started + patience


def reason(outcome: Outcome, call: Call[AnyRequest]) -> str:
    """The mesh's side of the story, on one line."""
    parts: list[str] = []
    record = call.record
    if outcome.failure is not None:
        parts.append(_what_failed(outcome, call))
    elif outcome.detail == "direct_response" and record.rule_object is not None and record.rule_object.redirect:
        where = dict(outcome.headers).get(b"location", b"").decode("latin-1")
        parts.append(f"the route redirects to {where}, which a gRPC call cannot follow: use rewrite or route instead")
    elif record.destination is not None and record.destination.missing:
        parts.append(record.lack or record.destination.missing)
    parts.append(route_of(record))
    if record.endpoint:
        parts.append(f"last endpoint {record.endpoint}")
    if len(record.attempts) > 1:
        parts.append(f"{len(record.attempts)} attempts")
    if record.not_sent_again:
        parts.append(record.not_sent_again)
    if record.flags:
        parts.append(f"flags {record.flags}")
    if record.lack and outcome.failure is None and record.lack not in parts:
        parts.append(record.lack)
    return "; ".join(parts)


def _what_failed(outcome: Outcome, call: Call[AnyRequest]) -> str:
    record, rule = call.record, call.record.rule_object
    if outcome.failure is Failure.TIMEOUT and "DC" in record.flags:
        return "the caller's deadline passed"
    if "Deadline Exceeded" in outcome.detail and rule is not None:  # grpcio's words, which say nothing of whose
        limits = [
            f"{name} of {seconds:g} s"
            for name, seconds in (("timeout", rule.timeout), ("perTryTimeout", rule.retry.per_try_timeout))
            if seconds is not None
        ]
        return f"no response within the route's {' and '.join(limits)}" if limits else "no response in time"
    return connect_detail(outcome, call) or (
        outcome.failure.name.lower().replace("_", " ") if outcome.failure is not None else ""
    )


def route_of(record: Exchange) -> str:
    """``VirtualService/default/ratings http[0] -> ratings.default.svc.cluster.local/v1``."""
    where = record.resource or "default route"
    if record.rule is not None and record.rule >= 0:
        where += f" http[{record.rule}]"
    return f"{where} -> {record.host}/{record.subset}" if record.subset else f"{where} -> {record.host}"


def _ascii(text: str) -> str:
    """Fit for metadata."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)

"""From a failed outcome to the exception a caller of httpx expects, with the mesh's own story in its message.

Works for httpx and for its successor httpx2: meshlib's classes derive from httpx's; for httpx2 a class is made once that
derives from both.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import httpx

from meshlib import errors
from meshlib.engine.outcome import Failure, Outcome

if TYPE_CHECKING:
    from meshlib.engine.explanation import Explanation
    from meshlib.transport.origins import BadUrl

_CLASSES: dict[Failure, tuple[type[errors.CallError], str]] = {
    Failure.CONNECT_FAILED: (errors.ConnectFailed, "ConnectError"),
    Failure.CONNECT_TIMEOUT: (errors.ConnectTimedOut, "ConnectTimeout"),
    Failure.RESET: (errors.UpstreamReset, "RemoteProtocolError"),
    Failure.REFUSED: (errors.UpstreamReset, "RemoteProtocolError"),
    Failure.PROTOCOL_ERROR: (errors.UpstreamReset, "RemoteProtocolError"),
    Failure.TIMEOUT: (errors.UpstreamTimeout, "ReadTimeout"),
    Failure.WRITE_TIMEOUT: (errors.UpstreamTimeout, "ReadTimeout"),
    Failure.POOL_TIMEOUT: (errors.Overflow, "PoolTimeout"),
    Failure.OVERFLOW: (errors.Overflow, "PoolTimeout"),
    Failure.INVALID_REQUEST: (errors.InvalidRequest, "LocalProtocolError"),
    Failure.CLOSED: (errors.ClosedMeanwhile, "RemoteProtocolError"),
}

_URL_CLASSES: tuple[tuple[type[errors.CallError], str], ...] = (
    (errors.UnsupportedProtocol, "UnsupportedProtocol"),
    (errors.ConnectFailed, "ConnectError"),
)

_made: dict[tuple[type, str], type] = {}


def exception_class(failure: Failure, module: ModuleType) -> type[errors.CallError]:
    """meshlib's class for ``failure``, which is also an exception of ``module`` (httpx or httpx2)."""
    return _of_module(*_CLASSES[failure], module)


def _of_module(base: type[errors.CallError], name: str, module: ModuleType) -> type[errors.CallError]:
    if module is httpx:
        return base
    found = _made.get((base, module.__name__))
    if found is None:
        found = _made[base, module.__name__] = type(base.__name__, (base, getattr(module, name)), {})
    return found


def bad_url(problem: BadUrl, request: Any, module: ModuleType) -> Exception:
    """The exception for a URL that leads nowhere: ``UnsupportedProtocol``, or ``ConnectError`` for an impossible port."""
    base, name = _URL_CLASSES[problem.port is not None]
    made = _of_module(base, name, module)(str(problem))
    made.request = request  # type: ignore[attr-defined]
    return made


def call_error(outcome: Outcome, record: Explanation, request: Any, module: ModuleType) -> Exception:
    """The exception for a final failure. A failing body iterator of the caller comes back as what it raised."""
    failure = outcome.failure or Failure.RESET
    if failure is Failure.REQUEST_BODY_FAILED and isinstance(outcome.error, Exception):
        return outcome.error
    kind = exception_class(failure, module)
    if failure is Failure.CONNECT_FAILED and isinstance(outcome.error, module.ProxyError):
        kind = _of_module(errors.ProxyFailed, "ProxyError", module)
    made = kind(_message(outcome, record, request))
    made.exchange = record
    made.request = request  # type: ignore[attr-defined]
    made.__cause__ = outcome.error
    return made


def _message(outcome: Outcome, record: Explanation, request: Any) -> str:
    parts = [f"{request.method} {request.url}: {outcome.detail or 'no answer'}"]
    if record.endpoint:
        parts.append(f"last endpoint {record.endpoint}")
    where = record.resource or "default route"
    if record.rule is not None and record.rule >= 0:
        where += f" http[{record.rule}]"
    target = f"{record.host}/{record.subset}" if record.subset else record.host
    parts.append(f"{where} -> {target}")
    if len(record.attempts) > 1:
        parts.append(f"{len(record.attempts)} attempts")
    if record.flags:
        parts.append(f"flags {record.flags}")
    return "; ".join(parts)

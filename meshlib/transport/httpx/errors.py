"""From a failed outcome to the exception a caller of httpx expects, with the mesh's own story in its message.

Works for httpx and for its successor httpx2: meshlib's classes derive from the exceptions of one of them
(``http_errors.py``); for callers of the other a class is made once that derives from both.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from meshlib import http_errors as errors
from meshlib.call_error import CallError
from meshlib.engine.outcome import Failure, Outcome
from meshlib.engine.wrong_address import connect_detail
from meshlib.httpx_module import imported, typed
from meshlib.transport.protocol.http1 import BodyFailed

if TYPE_CHECKING:
    import httpx

    from meshlib.engine.call import Call
    from meshlib.httpx_module import HttpxModule
    from meshlib.transport.httpx.origins import BadUrl

_CLASSES: dict[Failure, type[CallError]] = {
    Failure.CONNECT_FAILED: errors.ConnectFailed,
    Failure.CONNECT_TIMEOUT: errors.ConnectTimedOut,
    Failure.RESET: errors.UpstreamReset,
    Failure.REFUSED: errors.UpstreamReset,
    Failure.PROTOCOL_ERROR: errors.UpstreamReset,
    Failure.TIMEOUT: errors.UpstreamTimeout,
    Failure.WRITE_TIMEOUT: errors.WriteTimedOut,
    Failure.POOL_TIMEOUT: errors.Overflow,
    Failure.OVERFLOW: errors.Overflow,
    Failure.INVALID_REQUEST: errors.InvalidRequest,
    Failure.CLOSED: errors.ClosedMeanwhile,
}

_made: dict[tuple[type, str], type] = {}


def exception_class(failure: Failure, module: HttpxModule, error: BaseException | None = None) -> type[CallError]:
    """meshlib's class for ``failure`` (caused by ``error``), which is also an exception of ``module`` (httpx or httpx2)."""
    base = _CLASSES[failure]
    if failure is Failure.RESET and (isinstance(error, OSError) or _is_of("NetworkError", error)):
        base = errors.ConnectionReset
    elif failure is Failure.CONNECT_FAILED and _is_of("ProxyError", error):
        base = errors.ProxyFailed
    return _of_module(base, module)


def _is_of(name: str, error: BaseException | None) -> bool:
    """Whether it is an exception of that name: the transport that raised it need not be of the caller's module."""
    return any(isinstance(error, getattr(module, name)) for module in imported())


def _of_module(base: type[CallError], module: HttpxModule) -> type[CallError]:
    if module is errors.MODULE:
        return base
    found = _made.get((base, module.__name__))
    if found is None:
        theirs = [getattr(module, name) for name in _names_in_httpx(base)]

        def reduced(error: CallError) -> tuple[object, ...]:
            return _again, (base, module.__name__, error.args), vars(error)

        more = {"__module__": base.__module__, "__doc__": base.__doc__, "__reduce__": reduced}
        found = _made[base, module.__name__] = type(base.__name__, (base, *theirs), more)
    return found


def _again(base: type[CallError], module: str, args: tuple[object, ...]) -> CallError:
    """Out of a pickle: a class that was made has no name to be found by."""
    return _of_module(base, typed(importlib.import_module(module)))(*args)


def _names_in_httpx(base: type) -> list[str]:
    """The exceptions of httpx that a class of ours is, without those that follow from others."""
    found = [cls for cls in base.__mro__ if issubclass(cls, errors.MODULE.HTTPError) and not issubclass(cls, CallError)]
    return [cls.__name__ for cls in found if not any(cls in other.__mro__[1:] for other in found)]


def bad_url(problem: BadUrl, request: httpx.Request, module: HttpxModule) -> Exception:
    """The exception for a URL that leads nowhere: ``UnsupportedProtocol``, or ``ConnectError`` for an impossible port."""
    base = errors.UnsupportedProtocol if problem.port is None else errors.ConnectFailed
    made = _of_module(base, module)(str(problem))
    made.request = request  # type: ignore[attr-defined]
    return made


def call_error(outcome: Outcome, call: Call, request: httpx.Request, module: HttpxModule) -> Exception:
    """The exception for a final failure. A failing body iterator of the caller comes back as what it raised."""
    failure = outcome.failure or Failure.RESET
    if failure is Failure.REQUEST_BODY_FAILED and isinstance(outcome.error, Exception):
        return outcome.error
    error = outcome.error
    under = error.error if isinstance(error, BodyFailed) else error
    made = exception_class(failure, module, under)(_message(outcome, call, request))
    made.exchange = call.record
    made.request = request  # type: ignore[attr-defined]
    made.__cause__ = error
    return made


def _shown(url: httpx.URL) -> str:
    """Without a password, and without what a query says: it may be a token."""
    return str(url.copy_with(userinfo=b"", query=None)) + ("?..." if url.query else "")


def _message(outcome: Outcome, call: Call, request: httpx.Request) -> str:
    record = call.record
    parts = [f"{request.method} {_shown(request.url)}: {connect_detail(outcome, call) or 'no response'}"]
    if record.endpoint:
        parts.append(f"last endpoint {record.endpoint}")
    where = record.resource or "default route"
    if record.rule is not None and record.rule >= 0:
        where += f" http[{record.rule}]"
    target = f"{record.host}/{record.subset}" if record.subset else record.host
    parts.append(f"{where} -> {target}")
    if len(record.attempts) > 1:
        parts.append(f"{len(record.attempts)} attempts")
    if record.not_sent_again:
        parts.append(record.not_sent_again)
    if record.flags:
        parts.append(f"flags {record.flags}")
    return "; ".join(parts)

"""From what grpcio says of an attempt to what the exchange decides by.

grpcio has one form for everything that is not OK: a status code and a text, whether the server said so or the connection
broke. Envoy tells these apart (a retry on ``unavailable`` means the server's own word; a broken connection is a ``reset``),
so the text decides here. The texts are those of grpc's C core; test_outcome.py holds them against
the installed one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, final

from meshlib.engine.outcome import Failure, Outcome
from meshlib.policy.grpc_status import NUMBERS
from meshlib.policy.header_ops import RawHeaders
from meshlib.transport.grpcio.metadata import to_raw

if TYPE_CHECKING:
    from meshlib.transport.grpcio.contracts import Metadata

OK = NUMBERS["OK"]
CANCELLED = NUMBERS["CANCELLED"]
UNKNOWN = NUMBERS["UNKNOWN"]
DEADLINE_EXCEEDED = NUMBERS["DEADLINE_EXCEEDED"]
RESOURCE_EXHAUSTED = NUMBERS["RESOURCE_EXHAUSTED"]
INTERNAL = NUMBERS["INTERNAL"]
UNAVAILABLE = NUMBERS["UNAVAILABLE"]
MIDDLE = "the route's timeout passed in the middle of the stream"

_NOT_CONNECTED = re.compile(
    r"failed to connect to all addresses|failed to connect to remote host|name resolution|dns resolution|"
    r"dns query|empty address list|domain name not found|could not contact dns|errors resolving|address lookup failed|"
    r"connections to all backends failing|"
    r"handshak|hostname verification|connect timeout|connection attempt timed out|no route to host",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"rst_stream with error code 7|refused[_ ]stream|stream refused", re.IGNORECASE)
_NOT_SENT = re.compile(r"(stream removed \()?(goaway received|transport closed \()", re.IGNORECASE)
"""At the start: of a call that the server says it has not worked on, or that core began on a connection which had just been
closed, so that nothing of it was sent. A connection that ends, after a GOAWAY or not, with calls on it that the server may
have worked on has the other error's text first."""
_BROKEN = re.compile(
    r"socket closed|connection reset|broken pipe|recvmsg|sendmsg|goaway|cancelling all calls|rst_stream|"
    r"stream removed|stream closed|connection closed|transport closed|keepalive watchdog|keepalive timeout|"
    r"endpoint clos|connection dropped|end of (tcp )?stream|server closed|connection aborted|ping timeout|"
    r"transport is clos|too_many_pings|error reading|peer closed",
    re.IGNORECASE,
)
_HTTP_STATUS = re.compile(r"received http2 header with status: ([0-9]{3})", re.IGNORECASE)

_NO_STATUS = re.compile(r"data frame with end_stream flag received|no status received", re.IGNORECASE)

_HEADS: tuple[RawHeaders, ...] = tuple([(b"grpc-status", b"%d" % code)] for code in range(17))
_NO_HEADERS: RawHeaders = []


@final
class GrpcOutcome(Outcome):
    """An attempt that has a response. ``code`` is the call's status so far (OK while a stream goes on); ``message`` the
    response of a unary call, of the caller's own type; ``call`` grpcio's object for the attempt, of its runtime's type;
    ``at_once``: the status came without any message before it, which is when Envoy would have had it in the head of the
    response, and only then ``grpc_status`` is set; ``size``: bytes of the message as it came, with its frame, 0: nobody
    has counted them."""

    __slots__ = ("call", "code", "message", "told_headers")

    def __init__(
        self,
        message: Any = None,
        call: Any = None,
        code: int = OK,
        error: BaseException | None = None,
        at_once: bool = False,
    ) -> None:
        self.failure = None
        self.status = 200
        self.size = 0
        self.stale = False
        self.body = None
        self.detail = ""
        self.error = error
        if at_once:
            self.grpc_status = code
            self.headers = _HEADS[code]
            self.usual = False
        else:
            self.grpc_status = None
            self.headers = _NO_HEADERS
            self.usual = code == OK
        self.code = code
        self.message = message
        self.call = call
        self.told_headers = False

    def tell_headers(self, initial: Metadata | None, trailing: Metadata | None, details: str) -> None:
        """Put the metadata among the headers, for a rule that changes those."""
        self.told_headers = True
        self.usual = False
        if self.grpc_status is None:
            self.headers = to_raw(initial or ())
        else:
            message = details.encode("utf-8", "replace")
            self.headers = [*self.headers, (b"grpc-message", message), *to_raw(trailing or ())]


def ended(
    code: int,
    details: str | None,
    initial: Metadata | None,
    call: object,
    error: BaseException | None,
    timed: bool,
    request_error: BaseException | None = None,
) -> Outcome:
    """An attempt that ended without any message. ``timed``: it had a time limit of its own."""
    if code == OK:
        return GrpcOutcome(None, call, at_once=True)
    if request_error is not None:
        return Outcome(Failure.REQUEST_BODY_FAILED, f"the caller's requests raised {request_error!r}", error)
    text = details or ""
    failure = failure_of(code, text, timed)
    if failure is not None and (not initial or failure is Failure.INVALID_REQUEST):
        return Outcome(failure, text, error)  # never stale: a server that passes on what it heard has the same text
    if failure is not None or _NO_STATUS.search(text):
        # it broke, or just stopped, after the response had begun: nothing is retried then, and the server is not
        # held to account, as in Envoy
        return GrpcOutcome(None, call, code, error)
    found = _HTTP_STATUS.search(text)
    if found:  # something that speaks HTTP, not gRPC, responded
        made = GrpcOutcome(None, call, code, error)
        made.status = int(found[1])
        return made
    return GrpcOutcome(None, call, code, error, at_once=not initial)


def failure_of(code: int, details: str, timed: bool) -> Failure | None:
    """What went wrong on the way; None when the status is the server's own word."""
    if "RST_STREAM" in details:
        return Failure.REFUSED if _REFUSED.search(details) else Failure.RESET
    if code == DEADLINE_EXCEEDED:
        return Failure.TIMEOUT if timed and "Deadline Exceeded" in details else None
    if code == INTERNAL:
        return Failure.INVALID_REQUEST if details == "Invalid metadata" else None
    if code == RESOURCE_EXHAUSTED:
        return Failure.INVALID_REQUEST if "CLIENT: " in details else None  # over the channel's own message limits
    if code != UNAVAILABLE:
        return None
    if _REFUSED.search(details) or _NOT_SENT.match(details):
        return Failure.REFUSED
    if _NOT_CONNECTED.search(details):
        return Failure.CONNECT_FAILED
    if _BROKEN.search(details):
        return Failure.RESET
    return None

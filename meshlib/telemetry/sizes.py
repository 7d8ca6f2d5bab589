"""How large a call was: what metrics and access logs say of its bytes.

Sizes are those of heads and bodies, without what frames the pieces of a body. The head of a response over HTTP/1.1 is counted
as it came. Of others it counts as names and values of its headers, without what separates or compresses them, and so do the
heads of requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from meshlib.engine.message_size import size_of_message
from meshlib.engine.outcome import Outcome
from meshlib.engine.wire_headers import size_of

if TYPE_CHECKING:
    from meshlib.engine.call import Call


class Messages(NamedTuple):
    """How many messages of gRPC went either way."""

    sent: int
    received: int


def response_size(call: Call) -> int:
    """Bytes of the response of a call that is over: as many as its caller has read; 0 without one."""
    outcome = call.outcome
    if outcome is None:
        return 0
    if type(outcome) is not Outcome:  # of gRPC, whose messages are objects
        return size_of(outcome.headers) + _messages_size(call, outcome)
    size, whole = outcome.size, outcome.whole
    if whole is None:
        streamed: int = getattr(call, "streamed", 0)
        return (size or size_of(outcome.headers)) + streamed
    return size or size_of(outcome.headers) + len(whole)


def response_body_size(call: Call) -> int:
    """The same of its body alone."""
    outcome = call.outcome
    if outcome is None:
        return 0
    if type(outcome) is not Outcome:
        return _messages_size(call, outcome)
    return int(getattr(call, "streamed", 0)) if outcome.whole is None else len(outcome.whole)


def messages(call: Call) -> Messages:
    """Those of a call of gRPC."""
    request, outcome = call.request, call.outcome
    sent = getattr(request, "messages", b"")
    count = 1 if isinstance(sent, bytes) else sent.seen()[0]
    received: int | None = getattr(call, "messages", None)
    if received is None:
        received = 0 if outcome is None or getattr(outcome, "message", None) is None else 1
    return Messages(count, received)


def _messages_size(call: Call, outcome: Outcome) -> int:
    """Of messages that were read one by one, or of the one that is the response."""
    streamed: int | None = getattr(call, "streamed", None)
    if streamed is not None:
        return streamed
    return outcome.size or size_of_message(getattr(outcome, "message", None))

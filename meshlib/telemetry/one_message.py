"""Calls of gRPC with one message each way, which have ended well: nearly all are like the last one that went to the same
endpoint, and are counted where that was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.outcome import Outcome
from meshlib.engine.wire_headers import size_of
from meshlib.telemetry.tables import CountSeries

if TYPE_CHECKING:
    from meshlib.compiler.routes import Destination
    from meshlib.engine.call import Call
    from meshlib.engine.explanation import Exchange
    from meshlib.telemetry.served import Served
    from meshlib.telemetry.tables import Count


class OneMessage:
    """Where such calls to one endpoint are counted, for one destination, without any flag or metadata of the peer."""

    __slots__ = ("destination", "received", "sent", "served")

    def __init__(self, destination: Destination, served: Served, sent: CountSeries, received: CountSeries) -> None:
        self.destination = destination
        self.served = served
        self.sent = sent
        self.received = received

    def took(self, call: Call, now: float) -> bool:
        """Count a call that is over since ``now``; False: it is another one, and not counted."""
        record, outcome = call.record, call.outcome
        if (
            record.destination is not self.destination
            or record.grpc_status != 0
            or record.status != 200
            or record.flags
            or record.peer_metadata is not None
            or outcome is None
        ):
            return False
        size, request = outcome.size, call.request
        if type(outcome) is Outcome:  # as a proxy sees it
            whole = outcome.whole
            if whole is None or getattr(call, "messages", None) != 1 or not getattr(request, "one_message", False):
                return False
            if not size:
                size = size_of(outcome.headers) + len(whole)
        elif (
            not size
            or outcome.headers  # those of the response, where a rule changes them
            or getattr(outcome, "message", None) is None
            or type(getattr(request, "messages", None)) is not bytes
        ):
            return False
        self.served.note((now - record.started) * 1000.0, request.sent_bytes(), size)
        self.sent.value += 1.0  # no call from here on: one step to other threads (``tables.py``)
        self.received.value += 1.0
        return True


def one_message(
    record: Exchange, served: Served | None, sent: Count | None, received: Count | None
) -> OneMessage | None:
    """What counts such calls in these series, which are those of a call with this record; None: it was another one, or they are
    not plain numbers of this process."""
    destination = record.destination
    if destination is None or served is None or type(sent) is not CountSeries or type(received) is not CountSeries:
        return None
    if record.grpc_status != 0 or record.status != 200 or record.flags or record.peer_metadata is not None:
        return None
    return OneMessage(destination, served, sent, received)

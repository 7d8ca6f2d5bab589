"""gRPC as a proxy sees it: HTTP whose status is in a trailer, or in the head of a response that has nothing else."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

from meshlib.engine.message_size import FRAME, length_of
from meshlib.engine.outcome import Outcome
from meshlib.policy.grpc_status import grpc_of_http
from meshlib.transport.runtimes.loop import AsyncNetwork

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from meshlib.engine.effects import Send
    from meshlib.transport.runtimes.network_request import NetworkRequest

CONTENT_TYPE = (b"content-type", b"application/grpc")
_STATUS = b"grpc-status"
_name = itemgetter(0)
_OF_A_BODY = (b"content-length", b"content-type")
_AS_IT_IS = bytes(byte for byte in range(0x20, 0x7F) if byte != 0x25).decode()
"""What grpc-message does not escape."""


def is_one_message(data: bytes) -> bool:
    """Whether these bytes are one message and no more."""
    return data.startswith(length_of(len(data)), 1)


class MessageCount:
    """How many messages have begun in the bytes of one direction of a call, and how many bytes there were. What is no gRPC is
    counted as if it were: nothing that decides goes by it."""

    __slots__ = ("_begun", "_left", "count", "size")

    def __init__(self, data: bytes = b"") -> None:
        self._begun = b""  # of the bytes before a message, those that have come
        self._left = 0  # bytes of a message that are still to come
        if is_one_message(data):  # nearly always
            self.count, self.size = 1, len(data)
            return
        self.count = self.size = 0
        if data:
            self.feed(data)

    def feed(self, data: bytes) -> None:
        """Some more of them."""
        self.size += len(data)
        at, end = self._left, len(data)
        if self._begun:
            data, at, self._begun = self._begun + data, 0, b""
            end = len(data)
        while end - at >= FRAME:
            self.count += 1
            at += FRAME + int.from_bytes(data[at + 1 : at + FRAME], "big")
        if at < end:
            self._begun, at = data[at:], end
        self._left = at - end

    def seen(self) -> tuple[int, int]:
        """As what keeps messages that are sent tells it: how many, and their bytes without what frames them."""
        return self.count, self.size - FRAME * self.count


def local_reply(outcome: Outcome) -> Outcome:
    """A response that the mesh has made, as a caller of gRPC gets it from Envoy: 200 without a body, its status and text in the
    head. ``grpc_status`` of the result is the status."""
    status = grpc_of_http(outcome.status) if outcome.grpc_status is None else outcome.grpc_status
    headers = [CONTENT_TYPE, (_STATUS, b"%d" % status)]
    if outcome.whole:
        headers.append((b"grpc-message", quote_from_bytes(outcome.whole, _AS_IT_IS).encode()))
    headers += [pair for pair in outcome.headers if pair[0].lower() not in _OF_A_BODY]
    made = Outcome(status=200, headers=headers, whole=b"", detail=outcome.detail)
    made.grpc_status = status
    return made


def status_in(headers: Iterable[tuple[bytes, bytes]] | None) -> int | None:
    """The status that trailers, or the head of a response without any, say; None when they say none that is one."""
    if not headers:
        return None
    if type(headers) is list and headers[0][0] == _STATUS:  # nearly all trailers
        value = headers[0][1]
    elif _STATUS not in map(bytes.lower, map(_name, headers)):  # no step of bytecode a header
        return None
    else:
        value = next(value for name, value in headers if name.lower() == _STATUS)
    return int(value) if value.isdigit() and len(value) <= 9 else None


def status_of(outcome: Outcome, ended: bool) -> int | None:
    """The status of a call; ``ended``: its response is over. A response of gRPC that says none has ended as UNKNOWN, and one
    that is not gRPC's at all by its HTTP status, as for gRPC's clients."""
    status = status_in(outcome.trailers)
    if status is None:
        status = status_in(outcome.headers)
    if status is None and ended:
        return 2 if outcome.status == 200 else grpc_of_http(outcome.status)
    return status


class Network(AsyncNetwork):
    """Attempts, of which those of gRPC have the status of a response that ended with its head: what retries, outlier detection
    and breakers judge by, as in Envoy."""

    def send(self, effect: Send[NetworkRequest]) -> Coroutine[object, object, Outcome]:
        sent = super().send(effect)
        return sent if effect.call.request.protocol != "grpc" else _judged(sent)


async def _judged(sent: Coroutine[object, object, Outcome]) -> Outcome:
    outcome = await sent
    outcome.grpc_status = status_in(outcome.headers)
    return outcome

"""What an attempt over HTTP/1.1 has come to, once the head of its response is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlib.engine.outcome import Outcome
    from meshlib.transport.protocol.http1 import ResponseReader
    from meshlib.transport.upstream.loop_connection import Connection


def outcome_of(reader: ResponseReader, outcome: Outcome, told: Connection | None) -> Outcome:
    """``outcome``, a new one or one of a whole response that is over, made that of ``reader``'s response: with its body, where
    that is all here. ``told``: its connection, where somebody may want its address. Not by names, which cost a call as much as
    all the rest (row "proxy-inprocess")."""
    outcome.status = reader.status
    outcome.reason = reader.reason
    outcome.headers = reader.headers
    outcome.http_version = reader.http_version
    if reader.complete:
        outcome.size = reader.response_size
        chunks = reader.chunks
        outcome.whole = chunks.pop() if len(chunks) == 1 else reader.take()
    elif reader.switched is None:
        outcome.size = reader.head_size
    outcome.stream = None if told is None else told.stream
    return outcome

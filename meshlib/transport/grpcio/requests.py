"""Request messages that can be sent again: what a retried call with a stream of requests replays.

Messages are kept while they are sent, up to Envoy's 1 MiB, until the call is committed (its first answer is there) or has
become too long. Each attempt reads from the start; only the newest may take messages that are new.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from meshlib.transport.request_body import REPLAY_LIMIT


class Kept:
    """The books: messages sent so far. ``replayable`` while all of them are here; ``ended`` once no more will come."""

    __slots__ = ("_dropped", "_limit", "_messages", "_size", "ended", "replayable")

    def __init__(self, limit: int = REPLAY_LIMIT) -> None:
        self._messages: list[bytes] = []
        self._dropped = 0  # how many of the first are not kept any more
        self._size = 0
        self._limit = limit
        self.ended = False
        self.replayable = True

    def __len__(self) -> int:
        return self._dropped + len(self._messages)

    def append(self, message: bytes) -> None:
        """One more was taken from the caller."""
        self._messages.append(message)
        self._size += len(message)
        if self._size > self._limit:
            self.replayable = False

    def get(self, position: int) -> bytes:
        """The message at ``position``; forgotten with all before it when no other attempt will want it."""
        message = self._messages[position - self._dropped]
        if not self.replayable:
            del self._messages[: position - self._dropped + 1]
            self._dropped = position + 1
        return message

    def commit(self) -> None:
        """There will be no other attempt."""
        self.replayable = False


class ReplayIterator:
    """The caller's iterator of messages, for threads. ``attempt`` gives each attempt an iterator of serialized messages;
    ``error`` is what the caller's iterator (or its serializer) raised."""

    def __init__(self, source: Iterator[Any], serialize: Callable[[Any], bytes] | None) -> None:
        self.kept = Kept()
        self.error: BaseException | None = None
        self._source = source
        self._serialize = serialize
        # held while the caller's iterator is asked, so that the reader of a newer attempt waits for what the one of a
        # broken attempt is still about to get
        self._lock = threading.Lock()
        self._newest: object = None

    @property
    def replayable(self) -> bool:
        return self.kept.replayable

    @property
    def whole(self) -> bool:
        return self.kept.ended

    def commit(self) -> None:
        """There will be no other attempt."""
        self.kept.commit()

    def copy(self) -> ReplayIterator:
        """The same messages for a mirror; all of them are here."""
        made = ReplayIterator(iter(()), None)
        for position in range(len(self.kept)):
            made.kept.append(self.kept.get(position))
        made.kept.ended = True
        return made

    def attempt(self) -> Iterator[bytes]:
        """All messages from the first one; those of earlier attempts end."""
        me = self._newest = object()
        return self._read(me)

    def _read(self, me: object) -> Iterator[bytes]:
        position = 0
        kept = self.kept
        while True:
            with self._lock:
                if self._newest is not me:
                    return
                if position >= len(kept):
                    if self.error is not None:
                        raise self.error
                    if kept.ended:
                        return
                    self._pull()
                    if self._newest is not me or position >= len(kept):
                        continue
                message = kept.get(position)
            position += 1
            yield message

    def _pull(self) -> None:
        try:
            message = next(self._source)
            self.kept.append(message if self._serialize is None else self._serialize(message))
        except StopIteration:
            self.kept.ended = True
        except BaseException as error:  # noqa: BLE001 (raised again by whoever reads: grpcio cancels the call with it)
            self.error = error
            self.kept.ended = True

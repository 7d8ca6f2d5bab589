"""Request messages that can be sent again: what a retried call with a stream of requests replays.

Messages are kept while they are sent, up to Envoy's 1 MiB, until the call is committed (its first response is there) or has
become too long. Each attempt reads from the start; only the newest may take messages that are new.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Generic

from meshlib.transport.grpcio.client.serialize import to_bytes
from meshlib.transport.grpcio.contracts import Req, Serializer, ThreadMessages
from meshlib.transport.protocol.request_body import REPLAY_LIMIT


class Kept:
    """The books: messages sent so far. ``replayable`` while all of them are here; ``ended`` once no more will come."""

    __slots__ = ("_dropped", "_limit", "_messages", "ended", "past", "replayable", "size")

    def __init__(self, limit: int = REPLAY_LIMIT) -> None:
        self._messages: list[bytes] = []
        self._dropped = 0  # how many of the first are not kept any more
        self.size = 0  # bytes of all so far
        self.past = 0  # how many were never kept: sent at once, when there was to be no other attempt
        self._limit = limit
        self.ended = False
        self.replayable = True

    def __len__(self) -> int:
        return self._dropped + len(self._messages)

    def append(self, message: bytes) -> None:
        """One more was taken from the caller."""
        self._messages.append(message)
        self.size += len(message)
        if self.size > self._limit:
            self.replayable = False

    def get(self, position: int) -> bytes:
        """The message at ``position``; forgotten with all before it when no other attempt will want it."""
        message = self._messages[position - self._dropped]
        if not self.replayable:
            del self._messages[: position - self._dropped + 1]
            self._dropped = position + 1
        return message

    def commit(self, sent: int = 0) -> None:
        """There will be no other attempt; the first ``sent`` messages are not wanted any more."""
        self.replayable = False
        if sent > self._dropped:
            del self._messages[: sent - self._dropped]
            self._dropped = sent


class ReplayIterator(Generic[Req]):
    """The caller's iterator of messages, for threads. ``attempt`` gives each attempt an iterator of serialized messages;
    ``error`` is what the caller's iterator (or its serializer) raised."""

    def __init__(self, source: Iterator[Req], serialize: Serializer[Req] | None) -> None:
        self.kept = Kept()
        self.error: BaseException | None = None
        self._source = source
        self._serialize = serialize
        # held while the caller's iterator is asked, so that the reader of a newer attempt waits for what the one of a
        # broken attempt is still about to get
        self._lock = threading.Lock()
        self._newest: object = None
        self._followers: list[Follower] = []

    @property
    def replayable(self) -> bool:
        return self.kept.replayable

    @property
    def whole(self) -> bool:
        return self.kept.ended

    def seen(self) -> tuple[int, int]:
        """How many messages have come so far, and their bytes."""
        return len(self.kept), self.kept.size

    def commit(self) -> None:
        """There will be no other attempt."""
        self.kept.commit()

    def copy(self) -> Follower:
        """The same messages, and those to come, for a mirror."""
        follower = Follower(self)
        with self._lock:
            for position in range(len(self.kept)):
                follower.feed(self.kept.get(position))
            if self.kept.ended:
                follower.feed(None)
            else:
                self._followers.append(follower)
        return follower

    def over(self) -> None:
        """The call has ended: those who follow will get no more."""
        for follower in self._followers:
            follower.feed(None)

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
            data = to_bytes(message, self._serialize)
            self.kept.append(data)
            for follower in self._followers:
                follower.feed(data)
        except StopIteration:
            self.kept.ended = True
            self.over()
        except BaseException as error:  # noqa: BLE001 (raised again by whoever reads: grpcio cancels the call with it)
            self.error = error
            self.kept.ended = True


class Follower:
    """A mirror's share of the caller's messages: what was sent, and what will be. When it falls behind by more than the
    caller's own messages may wait for a retry, it ends: a mirror never holds up anything."""

    replayable = True
    whole = True
    error: BaseException | None = None

    def __init__(self, source: ThreadMessages) -> None:
        self._source = source  # keeps the books alive
        self._messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._waiting = 0
        self._seen = (0, 0)
        self._ended = False

    def feed(self, message: bytes | None) -> None:
        """One more message; None: the last was before."""
        if self._ended:
            return
        if message is not None:
            self._waiting += len(message)
            if self._waiting > REPLAY_LIMIT:
                message = None
        self._ended = message is None
        self._messages.put(message)

    def attempt(self) -> Iterator[bytes]:
        """The messages, as they come."""
        while (message := self._messages.get()) is not None:
            self._waiting -= len(message)
            count, size = self._seen
            self._seen = count + 1, size + len(message)
            yield message

    def seen(self) -> tuple[int, int]:
        """How many messages were taken, and their bytes."""
        return self._seen

    def commit(self) -> None:
        """Nothing to forget: a mirror makes one attempt, and each message is kept until that takes it."""

    def over(self) -> None:
        """Nothing more to end: the last message came by ``feed``."""

    def copy(self) -> ThreadMessages:
        """As if of the caller's own."""
        return self._source.copy()

"""Bytes of a tunnel that the kernel moves from one socket to the other (splice), without a copy to here and back.

A way begins with what event loops have. When reads have been large so often that it is a stream, both sockets are plain, and
all that was read before has been sent, its source is read no more by the loop's transport, and a pipe takes what there is, page
by page. Nothing is read while the pipe has something that the sink has not taken, so that back-pressure is the kernel's own.
The end of the source, and reads that are small again, hand it back: what comes then the transport reads as ever, the end among
it. Only Linux has this, and a kernel that refuses is asked once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import select
from collections.abc import Callable
from typing import Any

LARGE = 32 * 1024
"""Bytes of a read that may be one of a stream."""
OFTEN = 4
"""So many of those make one."""
SMALL = 4 * 1024
"""Bytes of a read that may be the end of a stream."""
PATIENCE = 16
"""So many of those in a row are."""
PIPE = 1024 * 1024
"""Bytes; what an unprivileged user may have of one pipe. Less is less, and no error."""
AHEAD = 64 * 1024
"""Bytes that a transport has not sent, from which on its source is not read, as event loops have it."""
MOST = 16
"""Ways that are moved so at the same time, of four descriptors each (``descriptors.RESERVE``)."""
REFUSALS = (errno.EINVAL, errno.ENOSYS, errno.EPERM)
"""Of a kernel, or of what a container is allowed."""


class Pipes:
    """Of one event loop: who has one, and which sockets are waited for. Where there are too many, the oldest whose pipe is
    empty makes room. Sockets are in an epoll of our own, which the loop watches: of one that is reset uvloop tells nobody."""

    def __init__(self) -> None:
        self.possible = hasattr(os, "splice")
        self.taken: dict[Way, None] = {}
        self._epoll: select.epoll | None = None
        self._then: dict[int, Callable[[], None]] = {}

    def room(self) -> bool:
        """Whether there is one more to be had."""
        if not self.possible:
            return False
        if len(self.taken) >= MOST:
            oldest = next((way for way in self.taken if not way.holds), None)
            if oldest is None:
                return False
            oldest.hand_back()
        return True

    def take(self, way: Way, loop: asyncio.AbstractEventLoop) -> None:
        """One more. Raises OSError."""
        if self._epoll is None:
            made = select.epoll()
            try:
                loop.add_reader(made.fileno(), self._look)
            except BaseException:  # one that nobody looks at would stop a stream for ever
                made.close()
                raise
            self._epoll = made
        self.taken[way] = None

    def give_back(self, way: Way, loop: asyncio.AbstractEventLoop) -> None:
        """One less."""
        del self.taken[way]
        if not self.taken and self._epoll is not None:
            loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def watch(self, descriptor: int, events: int, then: Callable[[], None]) -> None:
        """Call ``then`` each time that there are ``events``, or an error. Raises OSError where the system watches no more
        (``fs.epoll.max_user_watches``)."""
        assert self._epoll is not None
        self._epoll.register(descriptor, events)
        self._then[descriptor] = then

    def watch_no_more(self, descriptor: int) -> None:
        """As before ``watch``."""
        if self._epoll is not None and self._then.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def _look(self) -> None:
        for descriptor, _ in [] if self._epoll is None else self._epoll.poll(0):
            then = self._then.get(descriptor)
            if then is not None:
                then()


class Way:
    """One direction of a tunnel, from ``source`` to ``sink``, both transports. ``moved`` is told of bytes that the sink was
    given here. ``carried``: the kernel does it."""

    __slots__ = (
        "_from",
        "_head",
        "_held",
        "_into",
        "_large",
        "_loop",
        "_moved",
        "_out",
        "_pipes",
        "_sink",
        "_small",
        "_source",
        "_to",
        "_waits",
        "carried",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, pipes: Pipes, source: Any, sink: Any, moved: Callable[[int], None]
    ) -> None:
        self._loop = loop
        self._pipes = pipes
        self._source = source
        self._sink = sink
        self._moved = moved
        self.carried = False
        self._large = self._small = 0
        self._head = b""  # what was read last before, and is not sent yet
        self._held = 0  # bytes in the pipe
        self._waits = False  # for the sink to take more
        self._from = self._to = self._into = self._out = -1

    @property
    def holds(self) -> bool:
        """Whether there are bytes here that the sink has not taken."""
        return bool(self._head or self._held)

    def takes(self, data: bytes) -> bool:
        """``data`` is a large read. Whether it is on its way, and so is all that follows; else write it."""
        self._large += 1
        if self._large < OFTEN:
            return False
        if self._sink.get_write_buffer_size():
            # read on when it has sent all, not when there is little left
            self._sink.set_write_buffer_limits(high=AHEAD, low=0)
            return False
        if not self._begin():
            return False
        self._head = data
        self._go_on()
        return True

    def settle(self) -> None:
        """Hand what is here to the sink's transport, and have no part in it any more."""
        if not self.carried:
            return
        self._pipes.watch_no_more(self._to if self._waits else self._from)
        rest = [self._head]
        self._head = b""
        while self._held > 0:
            try:
                data = os.read(self._out, self._held)
            except OSError:  # it is not there: never, but not for ever either
                break
            self._held -= len(data)
            self._moved(len(data))
            rest.append(data)
        self._let_go()
        data = b"".join(rest)
        if data and not self._sink.is_closing():
            self._sink.write(data)

    def hand_back(self) -> None:
        """The source is its transport's again."""
        if not self._source.is_closing():
            self._source.resume_reading()
        self.settle()  # where there is much left, the sink has the source paused once more

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _begin(self) -> bool:
        self._large = 0  # who is refused asks again after as many
        source, sink = _socket_of(self._source), _socket_of(self._sink)
        if source < 0 or sink < 0 or not self._pipes.room():
            return False
        opened: list[int] = []
        try:
            opened.append(os.dup(source))  # the loop lets nobody else look at those of its transports
            opened.append(os.dup(sink))
            opened += os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            self._pipes.take(self, self._loop)
        except OSError:  # there are no descriptors left
            for each in opened:
                os.close(each)
            return False
        self._from, self._to, self._out, self._into = opened
        try:
            self._pipes.watch(self._from, select.EPOLLIN, self._readable)
        except OSError:
            self._let_go()
            return False
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._into, fcntl.F_SETPIPE_SZ, PIPE)
        self._source.pause_reading()
        self._small = 0
        self.carried = True
        self._waits = False
        return True

    def _let_go(self) -> None:
        self.carried = False
        self._pipes.give_back(self, self._loop)
        for each in (self._from, self._to, self._out, self._into):
            os.close(each)
        self._from = self._to = self._out = self._into = -1

    def _readable(self) -> None:
        try:
            size = os.splice(self._from, self._into, PIPE, flags=os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in REFUSALS:
                self._pipes.possible = False
                self.hand_back()
            else:  # its transport would never hear of it
                self.settle()
                self._source.abort()
            return
        if not size:  # the end, which its transport is told, too
            self.hand_back()
            return
        self._held += size
        self._small = 0 if size > SMALL else self._small + 1
        self._go_on()
        if self._small >= PATIENCE and self.carried and not self.holds:
            self.hand_back()

    def _go_on(self) -> None:
        """Give the sink what is here, and wait for whom that leaves to be waited for."""
        try:
            there = self._give()
        except OSError as error:
            if error.errno in REFUSALS:
                self._pipes.possible = False
                self.hand_back()
            else:
                self.settle()
                self._sink.abort()
            return
        if there is self._waits:
            self._waits = not there
            try:
                if there:
                    self._pipes.watch_no_more(self._to)
                    self._pipes.watch(self._from, select.EPOLLIN, self._readable)
                else:
                    self._pipes.watch_no_more(self._from)
                    self._pipes.watch(self._to, select.EPOLLOUT, self._go_on)
            except OSError:  # it cannot be waited for here
                self.hand_back()

    def _give(self) -> bool:
        """Whether the sink has taken all. Raises OSError."""
        try:
            while self._head:
                self._head = self._head[os.write(self._to, self._head) :]
            while self._held:
                size = os.splice(self._out, self._to, self._held, flags=os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE)
                self._held -= size
                self._moved(size)
        except BlockingIOError:
            return False
        return True


def _socket_of(transport: Any) -> int:
    """The descriptor of a connection that is nothing but its socket; -1: it is another one."""
    sock = transport.get_extra_info("socket")
    if sock is None or transport.get_extra_info("ssl_object") is not None or transport.is_closing():
        return -1
    found: int = sock.fileno()
    return found

"""Connections of a port before they are served, whatever drives it: an event loop (``acceptor.py``) or the thread of gRPC's
ports (``grpc_port.py``). How they are taken from the kernel, who of those that have said nothing is cut off, and what can be
shown. (``first_byte.py`` has what becomes of one that has spoken.)"""

from __future__ import annotations

import _socket
import contextlib
import errno
import itertools
import select
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from meshlib.identity.credentials import Credentials
    from meshlib.identity.identity import Identity

BATCH = 64
"""Connections that are accepted in one turn."""
PATIENCE = 10.0
"""Seconds from accepting a connection to its first byte, and to the end of its handshake where that is ours."""
MOST_WAITING = 1024
"""Connections of which that has not come yet; the oldest is cut off when there is one more."""
BACKOFF = 1.0
"""Seconds without accepting when the process or the machine has no descriptor (or memory) left."""
NO_ROOM = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends RST and keeps nothing."""

_FAMILY, _TYPE = _socket.socket.family.__get__, _socket.socket.type.__get__
K = TypeVar("K")
V = TypeVar("V")


class Turn(NamedTuple):
    """``more``: there may be more to accept; ``gone``: how many had left before they were accepted; ``no_room``: nothing can be
    accepted for now: back off."""

    connections: list[socket.socket]
    more: bool
    gone: int
    no_room: OSError | None


class Accepted(socket.socket):
    """A connection whose ``family`` and ``type`` are the numbers that they are to the system: those that say their names are
    made anew each time that one is asked for, as event loops do several times a connection."""

    __slots__ = ()
    family = _socket.socket.family  # type: ignore[assignment]
    type = _socket.socket.type  # type: ignore[assignment]

    @classmethod
    def by(cls, listener: socket.socket) -> socket.socket:
        """The next one of a socket that listens. Raises OSError, as ``accept`` does."""
        if not isinstance(listener, _socket.socket):
            return listener.accept()[0]
        number, _ = listener._accept()  # type: ignore[attr-defined] # what ``accept`` calls
        return cls(_FAMILY(listener), _TYPE(listener), listener.proto, number)


def accept_turn(listener: socket.socket, most: int = BATCH) -> Turn:
    """What has connected to a socket that does not block, up to ``most``. The connections do not block, either."""
    found: list[socket.socket] = []
    gone = 0
    for _ in range(most):
        try:
            connection = Accepted.by(listener)
        except (BlockingIOError, InterruptedError):
            return Turn(found, False, gone, None)
        except OSError as error:
            if error.errno in NO_ROOM:
                return Turn(found, False, gone, error)
            gone += 1
            continue
        connection.setblocking(False)
        found.append(connection)
    return Turn(found, True, gone, None)


class Waiting(dict[K, V]):
    """Who has been accepted and not been heard of, in the order in which they came. ``most``: so many may wait."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        super().__init__()
        self.most = most

    def one_too_many(self) -> K | None:
        """Who is to be cut off before another one is taken in: the one that has waited longest, if so many wait."""
        return next(iter(self)) if len(self) >= self.most else None

    def longest(self, count: int) -> list[K]:
        """So many who have waited longest: they make room when there is none."""
        return list(itertools.islice(self, count))


def usable(identity: Identity | None, now: float) -> Credentials | None:
    """What can be shown at ``now`` (seconds since the epoch); an expired certificate is none."""
    current = None if identity is None else identity.current()
    if current is None or current.svid.not_after <= now:
        return None
    return current


def has_ended(sock: socket.socket) -> bool:
    """Whether its client sends no more."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))


def close_with_reset(sock: socket.socket) -> None:
    """Whoever closes it resets it."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

"""The heads of the requests of one HTTP/2 connection of a client: what is known of one that differs from another in nothing but
its target is not found out again (row "proxy-grpc-inprocess"). ``MESHLIB_PLAIN=1`` turns this off."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from meshlib.transport.protocol.heads_seen import HeadsSeen
from meshlib.transport.protocol.http2_request import CLEAR, OF_THEIR_OWN, SECRETS, RequestHead, read_head
from meshlib.transport.protocol.shortcuts import PLAIN

if TYPE_CHECKING:
    from meshlib.transport.protocol.http2_codec import Head

STRANGE = 16
"""After so many heads in a row that are not known, a connection whose heads differ (a trace, a deadline) is asked no more..."""
AGAIN = 64
"""... until so many have come."""
RECENT = 8
"""Heads of a connection of which it is seen whether they come again: those that do are remembered, for all connections."""
LONG_TARGET = 4096
"""Bytes: a shorter target leaves room for a head that is remembered."""

_PSEUDO = 4
_PATH = b":path"
_seen: HeadsSeen[tuple[object, ...]] = HeadsSeen()
"""Of a ``RequestHead`` all that does not depend on its target, but for ``fields``, which say of each how it came."""
_of = _seen.of
_is_clear = re.compile(b"/[%b]{0,%d}" % (re.escape(CLEAR), LONG_TARGET - 2)).fullmatch
_new = tuple.__new__


class KnownHeads:
    """Not thread-safe: of a connection. ``tunnels``: as of ``read_head``."""

    __slots__ = ("_at", "_recent", "_strange", "_tunnels")

    def __init__(self, tunnels: bool) -> None:
        self._tunnels = tunnels
        self._at = _PSEUDO - 1  # where the target stands, as a rule
        self._strange = 0 if not PLAIN else STRANGE
        self._recent: dict[tuple[tuple[bytes, bytes], ...], None] = {}

    def read(self, headers: tuple[tuple[bytes, bytes], ...]) -> RequestHead:
        """As ``read_head``."""
        if self._strange < STRANGE:
            at = self._at
            try:
                name, target = headers[at]
            except IndexError:
                return read_head(headers, self._tunnels)
            if name == _PATH:
                key = headers[:at] + headers[at + 1 :]
                known = _of(key)
                if known is not None and _is_clear(target):
                    self._strange = 0
                    return _new(RequestHead, (target, key[3:], *known))
                return self._met(headers, key)
        return self._strangers(headers)

    def _met(self, headers: Head, key: tuple[tuple[bytes, bytes], ...]) -> RequestHead:
        """For the first time, as far as is known."""
        self._strange += 1
        head = read_head(headers, self._tunnels)
        recent = self._recent
        if not _is_known_by(head, key):
            return head
        if key in recent:
            recent.clear()
            self._strange = 0
            _seen.keep(key, head[2:])
        elif self._strange == STRANGE:
            recent.clear()
        else:
            if len(recent) >= RECENT:
                recent.clear()
            recent[key] = None
        return head

    def _strangers(self, headers: Head) -> RequestHead:
        """No head is asked for; or its target stands elsewhere."""
        if self._strange < STRANGE:
            self._at = next((at for at, (name, _) in enumerate(headers[:_PSEUDO]) if name == _PATH), self._at)
            self._strange += 1
        elif not PLAIN:
            self._strange += 1
            if self._strange >= STRANGE + AGAIN:
                self._strange = STRANGE - 2  # it may be met and come again
        return read_head(headers, self._tunnels)


def _is_known_by(head: RequestHead, key: tuple[tuple[bytes, bytes], ...]) -> bool:
    """Whether the rest of ``head`` is the same for each target that is ``CLEAR``. Secrets are not kept, nor what its sender
    would have no table keep (which has a type of its own)."""
    return (
        head.refused is None
        and head.fields == key[_PSEUDO - 1 :]
        and head.method not in OF_THEIR_OWN
        and _is_clear(head.target) is not None
        and SECRETS.isdisjoint(head.special)
        and {tuple}.issuperset(map(type, key))
    )

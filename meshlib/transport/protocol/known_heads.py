"""Response heads that were read before, by their exact bytes: reading one again costs a look-up.

Servers send the same head again and again, in one second at least (Date). One is remembered only if the parser took it, it
has a length, keeps the connection and came whole with its body; so a head says the same whenever it is met at the beginning
of a response. A server whose heads are all different is soon asked about rarely: see
``ResponseReader``. With ``MESHLIB_PLAIN=1`` none is remembered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.transport.protocol.shortcuts import PLAIN

if TYPE_CHECKING:
    from meshlib.policy.header_ops import RawHeaders

MOST_HEADS = 256
LONGEST_HEAD = 2048
"""Bytes of a head that is remembered; with ``MOST_HEADS``, what a server can make this process hold."""

KnownHead = tuple[int, bytes, "RawHeaders", int]
"""Status, reason, headers (copy them: responses do not share a list) and the length of the body."""

known: dict[bytes, KnownHead] = {}


def remember(table: dict[bytes, KnownHead], head: bytes, what: KnownHead) -> None:
    """In ``known``, or another table of one kind of readers. From any thread."""
    if PLAIN:
        return
    if len(table) >= MOST_HEADS:
        table.clear()  # in one step; those in use are back at once
    table[head] = what

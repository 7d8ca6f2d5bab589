"""How many descriptors the proxy may have, and how many connections that allows.

A connection of a client needs one, and most need another for an endpoint; an accepted connection for which none is left would
be answered with nothing. So the limit is raised to what the system allows, and the number of connections follows from it.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Protocol

from meshlib.problems import MeshError

RESERVE = 256
"""Descriptors for all else: files, listeners, admin, the event loop, streams that the kernel moves (``zero_copy.py``)."""
EACH = 2
"""Descriptors of a connection: the client's, and one to an endpoint."""
FEW = 1024
"""Connections below which a proxy is worth a warning: a sidecar of Envoy is run with 1,048,576 descriptors."""
LEAST = 16
"""Connections without which there is no sense in beginning."""
MOST = 1_048_576
"""Descriptors that are asked for where the system sets no limit."""


class Limits(Protocol):
    """``resource``, as far as it is needed here."""

    def getrlimit(self, what: int, /) -> tuple[int, int]: ...
    def setrlimit(self, what: int, limits: tuple[int, int], /) -> None: ...


@dataclass(frozen=True, slots=True)
class Room:
    """``descriptors``: RLIMIT_NOFILE by now. ``connections``: of clients, at once. ``note``: what is worth a warning, ""
    when nothing is."""

    descriptors: int
    connections: int
    note: str = ""


def make_room(wanted: int | None = None, limits: Limits = resource) -> Room:
    """Raise RLIMIT_NOFILE to its hard limit; ``wanted`` is ``--max-connections``, None: as many as there is room for. Raises
    ``MeshError`` when there is too little to begin with."""
    soft, hard = limits.getrlimit(resource.RLIMIT_NOFILE)
    now = raised(soft, hard)
    if now != soft:
        try:
            limits.setrlimit(resource.RLIMIT_NOFILE, (now, hard))
        except (OSError, ValueError):  # a container may forbid it
            now = soft
    return room(now, wanted)


def possible(limits: Limits = resource) -> int:
    """The descriptors that ``make_room`` would make room for, without doing so."""
    return raised(*limits.getrlimit(resource.RLIMIT_NOFILE))


def raised(soft: int, hard: int) -> int:
    """What a limit is raised to."""
    if soft == resource.RLIM_INFINITY:
        return MOST
    return max(soft, MOST if hard == resource.RLIM_INFINITY else hard)


def room(descriptors: int, wanted: int | None) -> Room:
    """What a number of descriptors has room for. Raises ``MeshError`` as ``make_room``. Pure."""
    most = max(0, (descriptors - RESERVE) // EACH)
    if most < LEAST:
        raise MeshError(
            f"RLIMIT_NOFILE is {descriptors}, its hard limit too: there is room for {most} connections, and a proxy needs "
            f"{LEAST} at least; allow more descriptors ({_how()})"
        )
    if wanted is not None and wanted > most:
        return Room(
            descriptors,
            wanted,
            f"--max-connections {wanted}: RLIMIT_NOFILE is {descriptors}, which has room for about {most} (a connection "
            f"and one to an endpoint each); connections beyond it wait. Allow {wanted * EACH + RESERVE} descriptors ({_how()})",
        )
    if wanted is None and most < FEW:
        return Room(
            descriptors,
            most,
            f"RLIMIT_NOFILE is {descriptors}, its hard limit too: no more than {most} connections are accepted at once. "
            f"Allow more descriptors ({_how()})",
        )
    return Room(descriptors, most if wanted is None else wanted)


def _how() -> str:
    return "ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile= of docker"

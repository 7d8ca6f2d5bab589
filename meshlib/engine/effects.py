"""What an exchange asks of its driver. Few, and closed: a new effect must be performed by every driver.

======== ==================================================== =======================================================
effect   the driver does                                      and sends back
======== ==================================================== =======================================================
Send     one attempt on an upstream connection                an ``Outcome``
Race     a first attempt, and more while it runs (hedging)    (the ``Send`` that won, its ``Outcome``); the others are
                                                              cancelled, their answers dropped, ``tries.lost`` told
Sleep    waits                                                None
Acquire  waits for a connection slot of a cluster             True (the slot is ours), False (``timeout`` passed)
                                                              or None (the line is full: overflow)
Deliver  hands the answer to the caller and, when the body    None when the body was read to its end, else the
         has been read, failed or was dropped, comes back     ``Failure`` that cut it; an abandoned body closes the
                                                              generator instead (GeneratorExit)
Spawn    runs another exchange beside this one, detached      None
======== ==================================================== =======================================================

A driver that is cancelled closes the generator: its ``finally`` blocks give everything back, exactly once.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from meshlib.policy.circuit_limits import Place

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.hedges import Hedges
    from meshlib.engine.outcome import Outcome
    from meshlib.policy.circuit_limits import Slots
    from meshlib.policy.endpoint import EndpointState


class Send:
    """One attempt. ``timeout``: seconds until the head of the answer must be whole, or None; ``deadline``: clock time
    when the whole answer must be, or None; ``attempt`` counts from 1."""

    __slots__ = ("attempt", "call", "cluster", "deadline", "endpoint", "outcome", "timeout", "under_way")
    outcome: Outcome

    def __init__(
        self,
        call: Call,
        cluster: BoundCluster,
        endpoint: EndpointState,
        timeout: float | None,
        deadline: float | None,
        attempt: int = 1,
    ) -> None:
        self.call = call
        self.cluster = cluster
        self.endpoint = endpoint
        self.timeout = timeout
        self.deadline = deadline
        self.attempt = attempt
        self.under_way = False


class Race:
    """``first``, and each ``delay`` seconds another try of ``tries`` beside it, until one wins or all have failed."""

    __slots__ = ("delay", "first", "tries", "winner")
    winner: Send

    def __init__(self, first: Send, delay: float, tries: Hedges) -> None:
        self.first = first
        self.delay = delay
        self.tries = tries


class Sleep:
    """Wait ``seconds``."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Acquire:
    """Wait, in line with others, for a connection slot, which comes into ``place``; ``timeout`` in seconds, None: as long as
    it takes."""

    __slots__ = ("granted", "place", "slots", "timeout")
    granted: bool | None

    def __init__(self, slots: Slots, timeout: float | None, place: Place | None = None) -> None:
        self.slots = slots
        self.timeout = timeout
        self.place = Place() if place is None else place


class Deliver:
    """The answer: from upstream, or made here (``local``)."""

    __slots__ = ("deadline", "local", "outcome")

    def __init__(self, outcome: Outcome, deadline: float | None = None, local: bool = False) -> None:
        self.outcome = outcome
        self.deadline = deadline
        self.local = local


class Spawn:
    """Run ``exchange`` on its own; nobody waits for it and its failures are counted, not raised."""

    __slots__ = ("exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange


Effect = Send | Race | Sleep | Acquire | Deliver | Spawn
Exchange = Generator[Effect, Any, None]

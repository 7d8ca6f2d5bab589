"""What an exchange, outbound or inbound, asks of its driver. Few, and closed: a new effect must be performed by every driver.

======== ===================================================== =======================================================
effect   the driver does                                       and says in the effect
======== ===================================================== =======================================================
Send     one attempt on an upstream connection                 ``outcome``
Race     a first attempt, and more while it runs (hedging)     ``winner``, which has its ``outcome``; the others are
                                                               cancelled, their responses dropped, ``tries.lost`` told
Sleep    waits
Acquire  waits for a connection slot of a cluster              ``granted``: True (the slot is ours), False (``timeout``
                                                               passed) or None (the line is full: overflow)
Spawn    runs another exchange beside this one, detached
Ask      runs a call through the mesh on behalf of this        ``outcome``, its body ``whole``
         exchange, to the last byte of its response
Wait     waits until somebody else's flight has landed         ``landed``: False when ``timeout`` passed before
Peek     reads the beginning of the body of the request that   ``head``, and whether it has ``ended`` with that
         is served; the application gets it, too
======== ===================================================== =======================================================

The last effect of an exchange is for whoever drives it, and what he tells by ``finish`` is sent back:

======== ===================================================== =======================================================
Deliver  the response of an outbound exchange: read it         None when the body was read to its end, else the
                                                               ``Failure`` that cut it
Serve    the request of an inbound exchange may come in:       how the application's response ``Ended``; None when it
         call the application; or respond with a ``refusal``   was refused, or its client went away
======== ===================================================== =======================================================

A brief outbound exchange (``outbound``) may end with its only ``Send``, whose response is whole: there is nothing to finish.

A driver that is cancelled closes the generator: its ``finally`` blocks give everything back, exactly once. So does a caller
that drops a response, or a client that goes away.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeAlias, final

from meshlib.engine.message import R
from meshlib.policy.circuit_limits import Place

if TYPE_CHECKING:
    from meshlib.engine.body_source import BodySource
    from meshlib.engine.call import Call
    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.flight import Flight
    from meshlib.engine.outcome import Failure, Outcome
    from meshlib.policy.circuit_limits import Slots
    from meshlib.policy.endpoint import EndpointState
    from meshlib.policy.refusal import Refusal


@final
class Send(Generic[R]):
    """One attempt. ``timeout``: seconds until the head of the response must be whole, or None; ``deadline``: clock time
    when the whole response must be, or None; ``attempt`` counts from 1. ``under_way``: it counts among the endpoint's."""

    __slots__ = ("attempt", "call", "cluster", "deadline", "endpoint", "outcome", "timeout", "under_way")
    outcome: Outcome

    def __init__(
        self,
        call: Call[R],
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


class Tries(Protocol[R]):
    """What a driver asks for more tries and tells of those that lost."""

    def another(self) -> Send[R] | None: ...
    def lost(self, send: Send) -> None: ...
    def wins(self, outcome: Outcome) -> bool: ...


@final
class Race(Generic[R]):
    """``first``, and each ``delay`` seconds another try of ``tries`` beside it, until one wins or all have failed."""

    __slots__ = ("delay", "first", "tries", "winner")
    winner: Send[R]

    def __init__(self, first: Send[R], delay: float, tries: Tries[R]) -> None:
        self.first = first
        self.delay = delay
        self.tries = tries


@final
class Sleep:
    """Wait ``seconds``."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


@final
class Acquire:
    """Wait, in line with others, for a connection slot, which comes into ``place``; ``timeout`` in seconds, None: as long as
    it takes."""

    __slots__ = ("granted", "place", "slots", "timeout")
    granted: bool | None

    def __init__(self, slots: Slots, timeout: float | None, place: Place | None = None) -> None:
        self.slots = slots
        self.timeout = timeout
        self.place = Place() if place is None else place


@final
class Spawn(Generic[R]):
    """Run ``exchange`` on its own; nobody waits for it and its failures are counted, not raised."""

    __slots__ = ("exchange",)

    def __init__(self, exchange: Exchange[R]) -> None:
        self.exchange = exchange


@final
class Ask(Generic[R]):
    """Run ``exchange``, and read its response of at most ``limit`` bytes: longer ones are a failure."""

    __slots__ = ("exchange", "limit", "outcome")
    outcome: Outcome

    def __init__(self, exchange: Exchange[R], limit: int = 1024 * 1024) -> None:
        self.exchange = exchange
        self.limit = limit


@final
class Wait:
    """Wait until ``flight`` has landed, at most ``timeout`` seconds (None: as long as it takes)."""

    __slots__ = ("flight", "landed", "timeout")
    landed: bool

    def __init__(self, flight: Flight, timeout: float | None = None) -> None:
        self.flight = flight
        self.timeout = timeout


@final
class Peek:
    """Read the body of ``source`` until ``limit`` bytes have come (``head`` may have more) or it has ended."""

    __slots__ = ("ended", "head", "limit", "source")
    head: bytes
    ended: bool

    def __init__(self, source: BodySource, limit: int) -> None:
        self.source = source
        self.limit = limit


@final
class Deliver:
    """The response: from upstream, or made here (``local``)."""

    __slots__ = ("deadline", "local", "outcome")

    def __init__(self, outcome: Outcome, deadline: float | None = None, local: bool = False) -> None:
        self.outcome = outcome
        self.deadline = deadline
        self.local = local


@final
class Serve:
    """Call the application; with a ``refusal``, respond so in its place."""

    __slots__ = ("refusal",)

    def __init__(self, refusal: Refusal | None = None) -> None:
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Ended:
    """How the application's response ended. ``status`` is HTTP's (0: none was sent), ``grpc_status`` None for plain HTTP."""

    status: int
    grpc_status: int | None = None
    flag: str = ""


if TYPE_CHECKING:
    Step: TypeAlias = Send[R] | Race[R] | Sleep | Acquire | Spawn[R] | Ask[R] | Wait | Peek
    Exchange: TypeAlias = Generator[Step[R] | Deliver, Failure | None, None]
    """An outbound one; the inbound ones are in ``inbound.py``."""
else:
    Step = Exchange = Generator

"""One call through the mesh: the request as policy sees it, and all that lives as long as the call does."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from meshlib.clock import Clock
from meshlib.engine.explanation import Explanation

if TYPE_CHECKING:
    from meshlib.engine.live import Live
    from meshlib.policy.endpoint import EndpointState


class CallerTimeouts:
    """What the caller itself allows, in seconds (None: no limit); httpx's ``timeout=`` in its four parts.

    ``read`` bounds the wait for the head of the answer over all attempts, delays and backoffs, as it would if a sidecar
    stood in between; ``connect`` bounds each connect, ``pool`` the wait for a connection slot.
    """

    __slots__ = ("connect", "pool", "read", "write")

    def __init__(
        self,
        connect: float | None = None,
        read: float | None = None,
        write: float | None = None,
        pool: float | None = None,
    ) -> None:
        self.connect = connect
        self.read = read
        self.write = write
        self.pool = pool


NO_TIMEOUTS = CallerTimeouts()


class Call:
    """``request`` (``engine.message.Request``) is what policies read, rules change and a runtime sends."""

    __slots__ = (
        "address",
        "clock",
        "entered",
        "hash_value",
        "held",
        "live",
        "record",
        "request",
        "retrying",
        "rng",
        "set_cookie",
        "timeouts",
        "wait",
    )

    def __init__(
        self,
        request: Any,
        live: Live,
        clock: Clock,
        rng: random.Random,
        timeouts: CallerTimeouts = NO_TIMEOUTS,
        wait: Any = None,
    ) -> None:
        self.request = request
        self.live = live
        self.clock = clock
        self.rng = rng
        self.timeouts = timeouts
        self.wait = wait
        self.hash_value: int | None = -1  # of consistent hashing; -1: not asked for yet, None: the request has no key
        self.address = ""  # of a name that is dialled as it is: every attempt of the call goes to this one
        self.set_cookie = ""  # a cookie that hashing made, for the answer to set
        self.record: Explanation
        # what the call counts for: each changes in one step with the count, as in ``circuit_limits.Place``
        self.held: EndpointState | None = None  # an attempt on it is under way
        self.retrying = False
        self.entered = False  # past its service's guard

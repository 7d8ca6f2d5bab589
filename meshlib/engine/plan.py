"""What the plain calls of a rule have in common (``plain_call.py``), for as long as its snapshot is in use."""

from __future__ import annotations

from itertools import chain, repeat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlib.compiler.routes import Destination, Rule
    from meshlib.engine.cluster import BoundCluster

INFINITE = float("inf")
MOST_DRAWN = 1000
"""Ways that ``Plan.drawn`` may have."""


class Way:
    """A destination, and its cluster once a call has gone there."""

    __slots__ = ("cluster", "destination")

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self.cluster: BoundCluster | None = None


class Plan:
    """What would be looked up by each call. ``timeout``: seconds for all of the call, None: any; ``within``: for its attempt,
    which is the rule's perTryTimeout where that is less, INFINITE without any; ``only``: the way, where there is one alone. Of
    several ways one is drawn by weight: ``drawn`` has each as many times as its weight says, ``span`` in all, so that a random
    position in it will do. ``drawn`` is None where it would be too long: then ``choice`` picks the way."""

    __slots__ = ("choice", "drawn", "only", "span", "timeout", "ways", "within")

    def __init__(self, rule: Rule) -> None:
        limits = rule.timeout, rule.retry.per_try_timeout
        self.timeout = rule.timeout
        self.within = min((seconds for seconds in limits if seconds is not None), default=INFINITE)
        self.choice = rule.choice
        self.ways = [Way(destination) for destination in rule.destinations]
        self.only = self.ways[0] if len(self.ways) == 1 else None
        self.span = float(self.choice.total)
        few = self.only is None and self.span <= MOST_DRAWN
        self.drawn = tuple(chain.from_iterable(map(repeat, self.ways, self.choice.weights))) if few else None

"""What the plain calls of a rule have in common (``plain_call.py``), for as long as its snapshot is in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlib.compiler.routes import Destination, Rule
    from meshlib.engine.cluster import BoundCluster

INFINITE = float("inf")


class Way:
    """A destination, and its cluster once a call has gone there."""

    __slots__ = ("cluster", "destination")

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self.cluster: BoundCluster | None = None


class Plan:
    """What would be looked up by each call. ``timeout``: seconds for all of the call, None: any; ``within``: for its attempt,
    which is the rule's perTryTimeout where that is less, INFINITE without any; ``only``: the way, where there is one alone."""

    __slots__ = ("choice", "only", "timeout", "ways", "within")

    def __init__(self, rule: Rule) -> None:
        limits = rule.timeout, rule.retry.per_try_timeout
        self.timeout = rule.timeout
        self.within = min((seconds for seconds in limits if seconds is not None), default=INFINITE)
        self.choice = rule.choice
        self.ways = [Way(destination) for destination in rule.destinations]
        self.only = self.ways[0] if len(self.ways) == 1 else None

"""Priorities and localities at work: which endpoints a pick may choose from, as Envoy spills load over.

A priority serves what its health allows: with 140 % overprovisioning it keeps all of its load until fewer than 71.4 % of
its endpoints are usable, and the rest goes to the next priority. Inside a priority a locality is chosen by its weight,
shrunk in the same way. Built anew when an endpoint's health changes, so that a pick costs a draw.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from meshlib.policy.balancer import equal_weights
from meshlib.policy.endpoint import EndpointState, those_usable

if TYPE_CHECKING:
    from meshlib.policy.balancer import Balancer
    from meshlib.policy.consistent_hash import Table

OVERPROVISIONING = 1.4
REMOTE_AFTER = 2
"""retryRemoteLocalities: every so many tries, the priorities tried are left out (Istio's update frequency)."""


class Group:
    """The usable endpoints of one locality in one priority. ``balancer`` picks among them; ``even``: they weigh the same."""

    __slots__ = ("balancer", "even", "usable", "weight")

    def __init__(self, usable: tuple[EndpointState, ...], weight: float, balancer: Balancer) -> None:
        self.usable = usable
        self.weight = weight
        self.balancer = balancer
        self.even = equal_weights(usable)


class Tier:
    """One priority: its share of the load in percent, its groups, and (with hashing) its table."""

    __slots__ = ("groups", "load", "priority", "table", "total_weight")

    def __init__(self, priority: int, groups: list[Group]) -> None:
        self.priority = priority
        self.groups = groups
        self.load = 0
        self.total_weight = sum(group.weight for group in groups)
        self.table: Table | None = None

    def group(self, rng: random.Random) -> Group | None:
        """A locality, by weight."""
        groups = self.groups
        if len(groups) == 1:
            return groups[0]
        at = rng.random() * self.total_weight
        for group in groups:
            at -= group.weight
            if at < 0:
                return group
        return groups[-1] if groups else None


def availability(usable: int, total: int) -> int:
    """Percent of its load that a priority (or locality) can serve."""
    return min(100, int(100 * OVERPROVISIONING * usable / total)) if total else 0


def spread(health: Sequence[int]) -> list[int]:
    """Load of each priority in percent, from their ``availability``; 100 in all unless nobody can serve anything."""
    total = min(100, sum(health))
    if not total:
        return [0] * len(health)
    loads = []
    left = 100
    for part in health:
        load = min(left, part * 100 // total)
        loads.append(load)
        left -= load
    if left:  # what rounding leaves goes to the first that serves at all
        first = next(i for i, part in enumerate(health) if part)
        loads[first] += left
    return loads


def build(
    endpoints: Iterable[EndpointState],
    places: Mapping[EndpointState, tuple[int, int]],
    weights: Sequence[float],
    panic_percent: int,
    balancer_of: Callable[[int, int], Balancer],
) -> list[Tier]:
    """The tiers of a cluster, best first. ``places``: priority and group of each endpoint; ``weights`` by group;
    ``balancer_of(priority, group)`` keeps each balancer's position. A priority in panic (fewer usable than
    ``panic_percent``) takes all of its endpoints."""
    members: dict[int, dict[int, list[EndpointState]]] = {}
    for endpoint in endpoints:
        priority, key = places[endpoint]
        members.setdefault(priority, {}).setdefault(key, []).append(endpoint)
    tiers = []
    health = []
    for priority in sorted(members):
        groups = members[priority]
        everyone = sum(len(group) for group in groups.values())
        in_use = {key: those_usable(group) for key, group in groups.items()}
        usable = sum(map(len, in_use.values()))
        panic = bool(panic_percent) and 100.0 * usable / everyone < panic_percent
        health.append(availability(everyone if panic else usable, everyone))
        made = []
        for key, group in groups.items():
            there = tuple(group if panic else in_use[key])
            if there:
                shrunk = min(1.0, OVERPROVISIONING * len(there) / len(group))
                made.append(Group(there, weights[key] * shrunk, balancer_of(priority, key)))
        tiers.append(Tier(priority, made))
    for tier, load in zip(tiers, spread(health), strict=True):
        tier.load = load
    return tiers


def choose(tiers: Sequence[Tier], at: int) -> Tier | None:
    """The tier of a draw ``at`` in 0..99; None when no tier takes load."""
    for tier in tiers:
        at -= tier.load
        if at < 0:
            return tier
    return None


def leaving_out(
    tiers: Sequence[Tier], tried: Sequence[EndpointState], places: Mapping[EndpointState, tuple[int, int]]
) -> Sequence[Tier]:
    """The tiers for a retry that should go elsewhere (``retryRemoteLocalities``): after every two tries without the
    priorities of the endpoints tried so far (``places``: as in ``build``); all of them again when none would be left."""
    rounds = len(tried) // REMOTE_AFTER
    if not rounds:
        return tiers
    gone = {places[endpoint][0] for endpoint in tried[: rounds * REMOTE_AFTER] if endpoint in places}
    others = [tier for tier in tiers if tier.priority not in gone and tier.groups]
    if not others:
        return tiers
    health = []
    for tier in others:
        everyone = sum(len(group.usable) for group in tier.groups)
        health.append(availability(everyone, everyone))
    left = []
    for tier, load in zip(others, spread(health), strict=True):
        copy = Tier(tier.priority, tier.groups)
        copy.load, copy.table = load, tier.table
        left.append(copy)
    return left

"""``assert_split``: whether calls were split as a VirtualService says, told by an exact test and not by a tolerance.

A split is random, so no count proves it; what a test can say is how unlikely what it saw would be if the split were right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

from meshlib.testing.asserts import names
from meshlib.testing.records import record_of

CLOSE = 1 + 1e-9
"""Probabilities so close count as equal: they are the same number, computed another way."""
ENUMERATED = 50_000
"""Outcomes of a multinomial test that are gone through one by one; beyond, each share is tested for itself (Bonferroni)."""


@overload
def assert_split(
    observed: Mapping[str, int] | Iterable[object], expected: Mapping[str, float], /, *, confidence: float = 0.999
) -> None: ...
@overload
def assert_split(
    observed: Mapping[str, int] | Iterable[object], /, *expected: float, confidence: float = 0.999
) -> None: ...
def assert_split(
    observed: Mapping[str, int] | Iterable[object], /, *expected: float | Mapping[str, float], confidence: float = 0.999
) -> None:
    """Calls were split as expected::

        assert_split([client.get(url) for _ in range(500)], {"v1": 0.9, "v2": 0.1})
        assert_split(responses, 0.9, 0.1)           # in the order of the route's destinations
        assert_split({"v1": 455, "v2": 45}, {"v1": 0.9, "v2": 0.1})

    ``observed`` are calls (responses, exceptions, gRPC calls) or counts by name; the names in ``expected`` are subsets, hosts,
    or ``host/subset``, and the shares add up to 1. The test is exact: binomial, or multinomial. It fails if, were the shares
    right, a result as unlikely as this one would come less often than 1 - ``confidence``. So a right split fails one run in
    1 / (1 - ``confidence``); a fixed seed (``--mesh-seed``) fails always or never.

    Raises AssertionError with what was seen, what was expected and how likely that is. Raises ValueError if the test could
    not fail at all, because there are too few calls or the shares do not add up to 1."""
    __tracebackhide__ = True
    if not 0 < confidence < 1:
        raise ValueError(f"the confidence {confidence} is not between 0 and 1")
    calls: list[object] = [] if isinstance(observed, Mapping) else list(observed)
    shares = _shares(observed, calls, expected)
    counts = dict.fromkeys(shares, 0)
    if isinstance(observed, Mapping):
        counts |= observed
    else:
        for call in calls:
            name = _name(call, shares)
            counts[name] = counts.get(name, 0) + 1
    total = sum(counts.values())
    _able_to_fail(shares, total, confidence)
    p = p_value(list(counts.values()), [shares.get(name, 0.0) for name in counts])
    if p < 1 - confidence:
        raise AssertionError(_said(counts, shares, total, p, confidence))


def _shares(
    observed: Mapping[str, int] | Iterable[object],
    calls: Sequence[object],
    expected: Sequence[float | Mapping[str, float]],
) -> dict[str, float]:
    if len(expected) == 1 and isinstance(expected[0], Mapping):
        shares = dict(expected[0])
    else:
        given = [share for share in expected if not isinstance(share, Mapping)]
        known = list(observed) if isinstance(observed, Mapping) else _destinations(calls)
        if len(given) != len(expected) or len(given) != len(known):
            raise ValueError(
                f"{len(expected)} shares for {len(known)} destinations ({', '.join(map(str, known)) or 'none'}): give one "
                "for each, in their order, or a dict of shares by name"
            )
        shares = dict(zip(map(str, known), given, strict=True))
    said = " + ".join(f"{share:g}" for share in shares.values())
    if any(share < 0 for share in shares.values()):
        raise ValueError(f"the expected shares {said}: none is below 0, and they add up to 1")
    if not abs(sum(shares.values()) - 1) <= 1e-9:  # NaN neither
        raise ValueError(f"the expected shares {said or '(none)'} do not add up to 1")
    return shares


def _destinations(calls: Sequence[object]) -> list[str]:
    """Of the rule that the calls took, as ``_name`` names them."""
    if not calls:
        raise ValueError("there are no calls to look at")
    rule = record_of(calls[0]).rule_object
    found = () if rule is None else rule.destinations
    subsets = [destination.subset for destination in found]
    if len(set(subsets)) == len(subsets):
        return [subset or destination.host for subset, destination in zip(subsets, found, strict=True)]
    return [f"{destination.host}/{destination.subset}" for destination in found]


def _name(call: object, shares: Mapping[str, float]) -> str:
    """Which of the expected destinations a call went to; a name of its own if none of them."""
    record = record_of(call)
    for name in shares:
        host, slash, subset = name.partition("/")
        if slash and subset == record.subset and names(record.host, host):
            return name
    if record.subset in shares:
        return record.subset
    for name in shares:
        if names(record.host, name):
            return name
    return f"{record.host}/{record.subset}" if record.subset else record.host


def _able_to_fail(shares: Mapping[str, float], total: int, confidence: float) -> None:
    """Raises ValueError if the least likely outcome would pass: all calls where fewest should go. As unlikely as that is the
    same of each destination with so small a share."""
    possible = [share for share in shares.values() if share > 0]
    least = min(possible)
    enumerated = len(possible) == 2 or math.comb(total + len(possible) - 1, len(possible) - 1) <= ENUMERATED
    alike = sum(share * CLOSE >= least >= share / CLOSE for share in possible) if enumerated else len(possible)
    if total and (len(possible) == 1 or alike * least**total < 1 - confidence):
        return
    needed = 1 if len(possible) == 1 else math.floor(math.log((1 - confidence) / alike) / math.log(least)) + 1
    raise ValueError(
        f"{total} calls cannot contradict any split at confidence {confidence:g}: make at least {needed}, and many more "
        "to tell shares apart that are close"
    )


def _said(counts: Mapping[str, int], shares: Mapping[str, float], total: int, p: float, confidence: float) -> str:
    seen = ", ".join(f"{name} {count} ({100 * count / total:.3g} %)" for name, count in counts.items())
    wanted = ", ".join(f"{name} {100 * share:.4g} % (about {share * total:.4g})" for name, share in shares.items())
    limit = f"the limit is {1 - confidence:.3g} (confidence {confidence:g})"
    if p == 0:
        stray = [name for name, count in counts.items() if count and not shares.get(name)]
        why = f"{', '.join(stray)} should get nothing" if stray else "it is less likely than a computer can say"
        return f"{total} calls went to: {seen}\nexpected: {wanted}\nthat cannot be: {why}"
    return (
        f"{total} calls went to: {seen}\nexpected: {wanted}\n"
        f"if that were the split, a result as unlikely as this would be seen in one of {1 / p:.3g} runs (p = {p:.2g}); {limit}"
    )


def p_value(counts: Sequence[int], shares: Sequence[float]) -> float:
    """How likely it is, if ``shares`` are right, to see counts that are as unlikely as these or less likely: the exact
    multinomial test (of two: the two-sided binomial one by likelihood). Beyond ``ENUMERATED`` outcomes: the smallest p of the
    binomial tests of each share, times their number, which never claims more than is true."""
    if any(count and not share for count, share in zip(counts, shares, strict=True)):
        return 0.0
    kept = [(count, share) for count, share in zip(counts, shares, strict=True) if share > 0]
    total, kinds = sum(count for count, _ in kept), len(kept)
    if kinds <= 1 or not total:
        return 1.0
    if kinds > 2 and math.comb(total + kinds - 1, kinds - 1) > ENUMERATED:
        return min(1.0, kinds * min(p_value([count, total - count], [share, 1 - share]) for count, share in kept))
    logs = [math.log(share) for _, share in kept]
    limit = _log_probability([count for count, _ in kept], logs, total) + math.log(CLOSE)
    outcomes = (_log_probability(outcome, logs, total) for outcome in _outcomes(total, kinds))
    return min(1.0, math.fsum(math.exp(log) for log in outcomes if log <= limit))


def _log_probability(counts: Sequence[int], logs: Sequence[float], total: int) -> float:
    return math.lgamma(total + 1) + math.fsum(
        count * log - math.lgamma(count + 1) for count, log in zip(counts, logs, strict=True)
    )


def _outcomes(total: int, kinds: int) -> Iterator[tuple[int, ...]]:
    """All ways to put ``total`` calls into so many kinds."""
    if kinds == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _outcomes(total - first, kinds - 1):
            yield (first, *rest)

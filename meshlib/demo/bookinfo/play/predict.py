"""What a visitor should see, from the compiled routes: a probability for each word of ``probe``.

The same snapshot that serves calls is read here, but nothing is sent: weights, faults, timeouts and subsets are followed
hop by hop (visitor -> productpage -> details and reviews -> ratings), with the services' own patience.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from meshlib.compiler.routes import Rule
from meshlib.compiler.snapshot import Snapshot
from meshlib.demo.bookinfo.play.probe import NO_PAGE, PATIENCE, UNAVAILABLE
from meshlib.demo.bookinfo.services.productpage import REVIEWS_TRIES, TIMEOUT
from meshlib.demo.bookinfo.services.reviews import RATINGS_TIMEOUT
from meshlib.engine.plain_request import PlainRequest
from meshlib.engine.route import route
from meshlib.policy.fault import MILLION

Odds = dict[str, float]
FAILED = "failed"
"""An answer other than 200: ``failed (503)``, or ``failed`` alone when there was none in time."""


@dataclass(slots=True)
class Prediction:
    """Probabilities by word, and how long the slowest look takes that is to be expected (seconds). ``balanced`` says that
    a balancer chose among versions: LEAST_REQUEST shares evenly only among idle ones, so look one by one."""

    details: Odds
    reviews: Odds
    seconds: float = 0.0
    balanced: bool = False


@dataclass(slots=True)
class Branch:
    """One way a call can go: with probability ``share`` it is held up ``seconds`` by a delay fault, then answered by a
    version or ``failed`` (``odds``, adding up to 1). ``allowance`` is the time the service then has to answer."""

    share: float
    seconds: float
    allowance: float
    odds: Odds
    balanced: bool = False


SnapshotOf = Callable[[str, str], Snapshot]
"""(service, version) -> what that caller's mesh compiled; ("visitor", "") is the runner's own."""


def predict(snapshot_of: SnapshotOf, user: str) -> Prediction:
    """What ``user`` ("" for nobody) sees."""
    shop = snapshot_of("productpage", "v1")
    page = call(snapshot_of("visitor", ""), "productpage", "/api/v1/products/0", user, PATIENCE)
    details = _odds(call(shop, "details", "/details/0", user, TIMEOUT))
    reviews, seconds = _reviews(snapshot_of, shop, user)
    lost = sum(share for answer, share in _odds(page).items() if _failed(answer))
    details = {answer.replace(FAILED, UNAVAILABLE): share for answer, share in details.items()}
    balanced = any(branch.balanced for branch in (*page, *call(shop, "reviews", "/reviews/0", user, TIMEOUT)))
    seconds += max((branch.seconds for branch in page), default=0.0)
    return Prediction(_behind(details, lost), _behind(reviews, lost), seconds, balanced)


def call(snapshot: Snapshot, service: str, path: str, user: str, patience: float) -> list[Branch]:
    """The call of a GET to ``service`` by a caller who waits ``patience`` seconds."""
    headers = {"end-user": user} if user else {}
    rule = route(snapshot, PlainRequest("GET", "http", f"{service}:9080", path, headers)).rule_object
    if rule is None:
        return [Branch(1.0, 0.0, patience, {f"{FAILED} (404)": 1.0})]
    fault = rule.fault
    aborted = fault.abort_share / MILLION if fault else 0.0
    served, balanced = _served(snapshot, rule)
    odds = defaultdict(float, {version: share * (1.0 - aborted) for version, share in served.items()})
    if fault is not None and aborted:
        odds[f"{FAILED} ({fault.abort_status})"] += aborted
    limits = (rule.timeout, rule.retry.per_try_timeout)
    allowance = min([patience, *(limit for limit in limits if limit is not None)])
    delayed = fault.delay_share / MILLION if fault and fault.delay else 0.0
    branches = [Branch(1.0 - delayed, 0.0, allowance, odds, balanced)] if delayed < 1 else []
    if fault is not None and delayed:
        if fault.delay >= patience:  # the delay outlasts the caller
            branches.append(Branch(delayed, patience, 0.0, {FAILED: 1.0}))
        else:
            branches.append(Branch(delayed, fault.delay, min(allowance, patience - fault.delay), odds, balanced))
    return branches


def _failed(answer: str) -> bool:
    return answer.startswith(FAILED)


def _served(snapshot: Snapshot, rule: Rule) -> tuple[Odds, bool]:
    """Who answers, when nothing is injected: weights, then the endpoints' versions (and whether a balancer chose)."""
    odds: Odds = defaultdict(float)
    balanced = False
    for destination, weight in zip(rule.destinations, rule.choice.weights, strict=True):
        share = weight / rule.choice.total
        cluster = snapshot.clusters.get(destination.cluster)
        if cluster is None or not cluster.endpoints:
            odds[f"{FAILED} (503)"] += share
            continue
        balanced |= len({endpoint.labels.get("version") for endpoint in cluster.endpoints}) > 1
        for endpoint in cluster.endpoints:
            odds[endpoint.labels.get("version", "")] += share / len(cluster.endpoints)
    return odds, balanced


def _odds(branches: list[Branch]) -> Odds:
    odds: Odds = defaultdict(float)
    for branch in branches:
        for answer, share in branch.odds.items():
            odds[answer] += branch.share * share
    return odds


def _reviews(snapshot_of: SnapshotOf, shop: Snapshot, user: str) -> tuple[Odds, float]:
    """One try of productpage, then another for those that failed."""
    once: Odds = defaultdict(float)
    slowest = 0.0
    for branch in call(shop, "reviews", "/reviews/0", user, TIMEOUT):
        for version, share in branch.odds.items():
            share *= branch.share
            patience = RATINGS_TIMEOUT.get(version)
            if patience is None or not share:
                once[FAILED if _failed(version) else version] += share
                slowest = max(slowest, branch.seconds)
                continue
            for inner in call(snapshot_of("reviews", version), "ratings", "/ratings/0", user, patience):
                # reviews waits for ratings, and productpage for reviews: the shorter patience decides
                slowest = max(slowest, branch.seconds + min(inner.seconds, branch.allowance))
                if inner.seconds >= branch.allowance:
                    once[FAILED] += share * inner.share
                    continue
                for answer, part in inner.odds.items():
                    word = f"{version} without ratings" if _failed(answer) else version
                    once[word] += share * inner.share * part
    failed = once.pop(FAILED, 0.0)
    odds = {word: share * sum(failed**k for k in range(REVIEWS_TRIES)) for word, share in once.items()}
    odds[UNAVAILABLE] = failed**REVIEWS_TRIES
    return odds, slowest * (REVIEWS_TRIES if failed else 1)


def _behind(odds: Odds, lost: float) -> Odds:
    """Only those that reach productpage at all; words that cannot be left out."""
    found = {word: share * (1.0 - lost) for word, share in odds.items()}
    found[NO_PAGE] = lost
    return {word: round(share, 9) for word, share in found.items() if share > 1e-9}

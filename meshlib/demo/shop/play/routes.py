"""Which version answers: the canary by metadata, shares by weight, and both for streams."""

from __future__ import annotations

from collections import Counter

from meshlib.demo.odds import misses
from meshlib.demo.report import counts, shares
from meshlib.demo.shop.play.customer import Answer
from meshlib.demo.shop.play.scenario import Stage, differs

CANARY = (("x-canary", "yes"),)
WEIGHTS = {"v1": 0.9, "v2": 0.1}


def play_canary(stage: Stage) -> None:
    """Who asks for the canary gets nothing else."""
    stage.begin("canary by metadata", "canary", "catalog -> v2 if x-canary is yes")
    seen = Counter(answer.version for answer in stage.customer.products(stage.calls, CANARY))
    stage.saw("x-canary: yes", "v2", f"{stage.calls} calls: {counts(seen)}", misses(seen, {"v2": 1.0}))


def play_weights(stage: Stage) -> None:
    """The others share."""
    stage.begin("weights 90/10", "products", "GetProduct -> v1 90 %, v2 10 %")
    for who, metadata in (("no metadata", ()), ("x-canary: no", (("x-canary", "no"),))):
        seen = Counter(answer.version for answer in stage.customer.products(stage.calls, metadata))
        stage.saw(who, shares(WEIGHTS), f"{stage.calls} calls: {counts(seen)}", misses(seen, WEIGHTS))


def play_streams(stage: Stage) -> None:
    """Every stream is whole, in order, and of one version from its first message to its last."""
    stage.begin("streams through the canary", "canary and streams", "ListProducts -> v2 if x-canary is yes, else 90/10")
    whole = [product.id for product in stage.customer.listed().messages]
    for who, metadata, wanted in (("x-canary: yes", CANARY, {"v2": 1.0}), ("no metadata", (), WEIGHTS)):
        seen: Counter[str] = Counter()
        why = differs("products", len(whole), len(set(whole)))
        for _ in range(stage.calls):
            answer = stage.customer.listed(metadata=metadata)
            seen[_version(answer)] += 1
            why += differs("status", answer.code, "OK")
            why += differs("products", [product.id for product in answer.messages], sorted(whole))
        why += misses(seen, wanted)
        text = f"{stage.calls} streams of {len(whole)} products, whole and in order: {counts(seen)}"
        stage.saw(who, shares(wanted), text if not why else f"{stage.calls} streams: {counts(seen)}", why)


def _version(answer: Answer) -> str:
    versions = {product.served.version for product in answer.messages}
    return " and ".join(sorted(versions)) or answer.code

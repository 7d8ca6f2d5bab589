"""``python -m tests.proxy.malformed.by_hand --seconds 1800 --seed 7 [--side inbound]``: new cases, asked of a real Envoy and of
our proxy beside it, for as long as that.

Half are drawn as ``families/mixed.py`` does, by another seed; the others are cases of the corpus with some bytes changed,
taken out, put in or doubled. What is found laxer is asked twice more, of both: a busy machine is no finding.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter

from tests.proxy.malformed.asking import Slot, ask_all, slots
from tests.proxy.malformed.case import INTERESTING, SHOP, Case, Side
from tests.proxy.malformed.compare import Finding, Verdict, as_recorded, verdict
from tests.proxy.malformed.corpus import cases_of
from tests.proxy.malformed.families.mixed import drawn
from tests.proxy.malformed.istio_sidecar import inbound_sidecar, sidecar
from tests.proxy.malformed.test_our_proxy import inbound, outbound

WRONG: dict[Side, tuple[Verdict, ...]] = {
    "outbound": (Verdict.LAXER, Verdict.HANG),
    "inbound": (Verdict.LAXER, Verdict.HANG),
    # a changed byte may make it another stream, or a head that goes on: Envoy closes the connection, we reset that stream
    "http2": (Verdict.LAXER,),
}
BATCH = 480
PATIENCE = 0.6
"""Seconds that Envoy has: where it waits by then, a response of ours is not compared with what it might say later."""
OURS = 5.0
AGAIN = 2
MOST_CHANGES = 3


def mutated(rng: random.Random, case: Case, name: str) -> Case:
    """``case`` with a few bytes changed; never in the host that tells whose it is."""
    data = bytearray(case.data)
    for _ in range(rng.randint(1, MOST_CHANGES)):
        if not data:
            data = bytearray(b"G")
        at = rng.randrange(len(data))
        way = rng.randrange(4)
        if way == 0:
            data[at] = rng.choice(INTERESTING)
        elif way == 1:
            del data[at]
        elif way == 2:
            data.insert(at, rng.choice(INTERESTING))
        else:
            end = min(len(data), at + rng.randint(1, 40))
            data[at:at] = data[at:end]
    return Case(name, bytes(data), tuple(cut for cut in case.cuts if cut < len(data)), case.leaves)


def batch(rng: random.Random, side: Side, number: int) -> list[Case]:
    """New cases."""
    made = []
    known = cases_of(side)
    while len(made) < BATCH:
        name = f"{number}-{len(made)}"
        if side != "http2" and rng.random() < 0.5:
            case = drawn(rng, f"mixed/{name}")
        else:
            old = rng.choice(known)
            case = mutated(rng, old, f"{old.family}/{name}")
        if side != "outbound" or SHOP in case.data.lower():  # else it might come to another case's upstream
            made.append(case)
    return made


async def _both(
    envoy: tuple[str, int], our: tuple[str, int], envoys: list[Slot], ours: list[Slot], cases: list[Case]
) -> list[Finding]:
    theirs = await ask_all(envoy, envoys, cases, lambda _: PATIENCE)
    made = await ask_all(our, ours, cases, lambda case: OURS if theirs[case.id].end == "closed" else PATIENCE)
    found = []
    for case in cases:
        one, other = as_recorded(theirs[case.id]), as_recorded(made[case.id])
        found.append(Finding(case, *verdict(one, other), one, other))
    return found


async def compare(side: Side, seed: int, seconds: float) -> int:
    """How many stayed laxer."""
    rng, until, counts, bad = random.Random(seed), time.monotonic() + seconds, Counter[Verdict](), 0
    async with slots(24) as envoys, slots(24) as own, (inbound if side == "inbound" else outbound)(own) as ours:
        with (inbound_sidecar if side == "inbound" else sidecar)(envoys) as envoy:
            number = 0
            while time.monotonic() < until:
                found = await _both(envoy, ours, envoys, own, batch(rng, side, number))
                number += 1
                wrong = [each for each in found if each.verdict in WRONG[side]]
                for _ in range(AGAIN):
                    if wrong:
                        again = await _both(envoy, ours, envoys, own, [each.case for each in wrong])
                        wrong = [each for each in again if each.verdict in WRONG[side]]
                for each in wrong:
                    print(
                        f"{each.verdict.value} {each.why}\n  {each.case!r}\n  Envoy {each.envoys}\n  ours {each.ours}",
                        flush=True,
                    )
                bad += len(wrong)
                counts.update(each.verdict for each in found)
                print(
                    f"{sum(counts.values())} cases, {bad} laxer or hanging; { ({k.value: n for k, n in counts.items()}) }",
                    flush=True,
                )
    return bad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--seed", type=int, default=18)
    parser.add_argument("--side", choices=("outbound", "inbound", "http2"), default="outbound")
    given = parser.parse_args()
    sys.exit(bool(asyncio.run(compare(given.side, given.seed, given.seconds))))


if __name__ == "__main__":
    main()

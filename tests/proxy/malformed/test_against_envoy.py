"""The answers beside the corpus are those of a real Envoy: some cases are asked again."""

from __future__ import annotations

import pytest

from tests.proxy.malformed.answers import as_recorded, digest, recorded
from tests.proxy.malformed.asking import ask_all, slots
from tests.proxy.malformed.compare import Verdict, verdict
from tests.proxy.malformed.corpus import all_cases
from tests.proxy.malformed.istio_sidecar import sidecar

EVERY = 40
PATIENCE = 20.0
LEFT_WAITING = 1.0


@pytest.mark.differential
async def test_envoy_answers_as_it_was_recorded() -> None:
    _, answers = recorded()
    cases = [case for case in all_cases()[::EVERY] if case.id in answers and answers[case.id][0] == digest(case)]
    async with slots(16) as made:
        with sidecar(made) as proxy:
            found = await ask_all(
                proxy, made, cases, lambda case: LEFT_WAITING if answers[case.id][1].end != "closed" else PATIENCE
            )
    other = {
        case.id: (answers[case.id][1], found[case.id])
        for case in cases
        if verdict(answers[case.id][1], as_recorded(found[case.id]))[0] is not Verdict.SAME
    }
    assert not other

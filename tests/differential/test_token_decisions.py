"""Tokens against a real Envoy: random rules and requests, with the configuration that Istio's generator gives its
``jwt_authn``. Ours decide the same, or stricter for reasons that docs/parity.md lists; nobody comes in whom Envoy refuses.

``MESHLIB_TOKEN_CASES``: how many lists of rules, each with 25 requests (``make differential`` asks for many)."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.differential.envoy_process import require_envoy
from tests.differential.tokens.generate import Case, Generator
from tests.differential.tokens.sides import OurSide, envoy_for
from tests.differential.tokens.verdict import verdict

pytestmark = pytest.mark.differential
CASES = int(os.environ.get("MESHLIB_TOKEN_CASES", "40"))
SEED = int(os.environ.get("SEED", "13"))
REQUESTS = 25
AT_ONCE = 500
"""Lists of rules in one Envoy."""


def judged(cases: list[Case]) -> Counter[str]:
    """How often each verdict; anything else than equal and stricter is told with its case."""
    found: Counter[str] = Counter()
    wrong = []
    with envoy_for(cases) as envoy:
        for number, case in enumerate(cases):
            ours = OurSide(case)
            try:
                for place, request in enumerate(case.requests):
                    by = ours.by_wsgi if place % 3 == 2 else ours.by_asgi
                    said = verdict(case, request, envoy.ask(number, request), by(request))
                    if said.partition(":")[0] in ("equal", "stricter"):
                        found[said] += 1
                    else:
                        wrong.append(f"{by.__name__} {said}\n{request}\n{case.rules}")
            finally:
                ours.close()
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n\n".join(wrong[:3])
    return found


def test_tokens_are_judged_as_by_envoy_or_stricter():
    require_envoy()
    generator = Generator(SEED)
    found: Counter[str] = Counter()
    for begun in range(0, CASES, AT_ONCE):
        found += judged([generator.case(REQUESTS) for _ in range(min(AT_ONCE, CASES - begun))])
    assert found["equal"] > 0.8 * CASES * REQUESTS, found
    print(found)  # noqa: T201

"""Random route decisions through ``meshlib proxy`` and through a real Envoy, over the wire: what arrives at the upstream, and
what comes back, is the same.

``make wire`` runs 10,000 in CI, ``make differential N=1000000`` as many as you like.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.differential.envoy_process import require_envoy
from tests.differential.referee import wire_side
from tests.differential.referee.generate import cases
from tests.differential.referee.wire_side import judge

pytestmark = [pytest.mark.differential, pytest.mark.slow]

CASES, REQUESTS, SEED = 25, 40, 20261127


def test_what_is_forwarded_and_what_comes_back_is_envoys() -> None:
    require_envoy()
    tally = judge(cases(SEED, CASES, REQUESTS))
    assert not tally.laxer, "\n".join(map(str, tally.laxer[:3]))
    assert tally.equal == CASES * REQUESTS
    for kind, least in {"forwarded": 125, "rewritten": 25, "redirect": 25, "local 404": 25, "local 503": 10}.items():
        assert tally.kinds[kind] > least, tally.kinds


def test_header_operations_that_our_side_does_not_have_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    require_envoy()
    real = wire_side.resources

    def without(made: Any, echo: int) -> Any:
        found = copy.deepcopy(real(made, echo))
        for each in found:
            for rule in each["spec"].get("http", ()):
                rule.pop("headers", None)
        return found

    monkeypatch.setattr(wire_side, "resources", without)
    monkeypatch.setattr(wire_side, "DRAWS", 1)
    assert judge(cases(SEED, 20, 10)).laxer

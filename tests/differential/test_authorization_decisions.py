"""Who may come in, decided by a real Envoy with the RBAC filters that istiod would write, and by meshlib."""

from __future__ import annotations

import pytest

from tests.differential.authorization.envoy_side import envoy_for
from tests.differential.authorization.known import KNOWN
from tests.differential.envoy_process import require_envoy

pytestmark = pytest.mark.differential


@pytest.fixture(scope="module")
def known_to_envoy():
    """By name, the statuses that Envoy gives to the known cases."""
    require_envoy()
    cases = [known.case(number) for number, known in enumerate(KNOWN.values())]
    with envoy_for(cases) as envoy:
        decisions = iter(envoy.ask(cases))
    return {name: [next(decisions).status for _ in known.case(0).requests] for name, known in KNOWN.items()}


@pytest.mark.parametrize("name", KNOWN)
def test_envoy_decides_what_is_known_of_istio(name, known_to_envoy):
    assert known_to_envoy[name] == KNOWN[name].statuses()

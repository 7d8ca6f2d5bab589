"""An SVID does not give its key away."""

from __future__ import annotations

import copy
import pickle

import pytest

from meshlib.security.authority import Authority

NOW = 1_790_000_000.0
SVID = Authority.root("cluster.local", NOW).issue("spiffe://cluster.local/ns/default/sa/reviews", NOW)


def test_its_repr_says_who_and_nothing_of_the_key() -> None:
    assert repr(SVID) == "<Svid spiffe://cluster.local/ns/default/sa/reviews>"


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_is_not_copied(way: object) -> None:
    with pytest.raises(TypeError, match="not pickled or copied"):
        way(SVID)  # type: ignore[operator]

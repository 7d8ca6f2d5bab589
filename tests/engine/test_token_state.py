"""Token checks from one configuration to the next."""

from __future__ import annotations

from meshlib.compiler.inbound import NOTHING, Inbound
from meshlib.compiler.mesh_settings import MeshSettings
from meshlib.compiler.token_rules import KeySource, TokenRule, token_rules
from meshlib.engine.token_state import TokenState
from meshlib.policy.token_locations import token_locations
from tests.support.fake_clock import FakeClock
from tests.support.token_bench import Idp


def settings(issuer, normalization="BASE"):
    rule = TokenRule("a/b", issuer, frozenset(), token_locations([], [], []), KeySource(f"http://{issuer}"))
    return Inbound(tokens=token_rules([rule]), mesh=MeshSettings(path_normalization=normalization))


def state():
    return TokenState(FakeClock(), Idp().ask)


def test_without_rules_there_is_no_check():
    here = state()
    here.take([NOTHING])
    assert here.checks(NOTHING) == ()


def test_the_same_rules_have_the_same_check_on_all_ports_and_after_a_reload():
    here = state()
    here.take([settings("a"), settings("a"), settings("b")])
    (one,), (same,), (other,) = (here.checks(settings(name)) for name in "aab")
    assert one is same is not other
    here.take([settings("a")])
    assert here.checks(settings("a")) == (one,)
    here.take([settings("a", "MERGE_SLASHES")])
    assert here.checks(settings("a", "MERGE_SLASHES")) != (one,)


def test_sources_that_nobody_needs_are_forgotten():
    here = state()
    here.take([settings("a"), settings("b")])
    assert [source["url"] for source in here.key_sets.status()] == ["http://a", "http://b"]
    here.take([settings("b")])
    assert [source["url"] for source in here.key_sets.status()] == ["http://b"]


def test_after_a_fork_its_locks_are_free():
    here = state()
    here.take([settings("a")])
    here.key_sets._lock.acquire()
    here.after_fork()
    here.take([settings("b")])

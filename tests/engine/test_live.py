"""What a reload leaves alone stays bound as it is, with its connections; what it touched and is in use is bound at once."""

from __future__ import annotations

from typing import Any

from meshlib.compiler.compile import Compiler
from meshlib.engine.live import Live
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.resources import destination_rule, pod, service, service_entry

SERVICES = [service("a"), service("b"), pod("a", "v1", 1), pod("b", "v1", 2)]
A, B = (f"outbound|9080||{name}.default.svc.cluster.local" for name in "ab")


def load(*resources: dict[str, Any]) -> list[Any]:
    result = load_objects(resources)
    assert not result.errors, result.errors
    return list(result.resources)


FIXED = load(*SERVICES)


def lives(*further: list[Any], use: tuple[str, ...] = (A, B)) -> list[Live]:
    """One after the other, each with further resources, the clusters ``use`` being in use from the first on."""
    compiler = Compiler(Workload())
    made = [Live(compiler.compile(FIXED), 0.0)]
    for key in use:
        made[0].cluster(key)
    for resources in further:
        made.append(Live(compiler.compile([*FIXED, *resources]), 0.0, made[-1]))
    return made


def policy(**spec: Any) -> list[Any]:
    metadata = {"name": "a"}
    spec = {"host": "a", **spec}
    return load({"apiVersion": "meshlib.dev/v1", "kind": "ResiliencePolicy", "metadata": metadata, "spec": spec})


def test_a_cluster_whose_endpoints_change_is_bound_anew_and_no_other():
    before, after = lives(load(pod("a", "v1", 3)))
    assert after.bound[A] is not before.bound[A]
    assert after.bound[A].state is before.bound[A].state
    assert len(after.bound[A].endpoints) == 2
    assert after.bound[B] is before.bound[B]


def test_what_is_not_in_use_is_not_bound():
    _, after = lives(load(pod("a", "v1", 3)), use=(B,))
    assert set(after.bound) == set(after.states) == {B}


def test_a_cluster_that_is_gone_is_forgotten():
    before = lives()[0]
    after = Live(Compiler(Workload()).compile(FIXED[1:]), 0.0, before)
    assert set(after.bound) == set(after.states) == {B}
    assert set(before.bound) == {A, B}


def test_a_guard_comes_stays_changes_and_goes_with_its_policy():
    one, same, other = ({"bulkhead": {"maxConcurrent": n, "maxWaiting": 0}} for n in (1, 1, 2))
    _, guarded, still, changed, without = lives(policy(**one), policy(**same), policy(**other), [])
    guard = guarded.bound[A].guard
    assert guard is not None
    assert still.bound[A].guard is guard
    assert changed.bound[A].guard not in (None, guard)
    assert without.bound[A].guard is None
    assert {live.bound[B].guard for live in (guarded, still, changed, without)} == {None}


def test_limits_that_change_count_at_once():
    limits = destination_rule("a", connectionPool={"tcp": {"maxConnections": 3}})
    before, after = lives(load(limits))
    assert after.bound[A] is not before.bound[A]
    assert after.bound[A].spec.limits.max_connections == 3


def test_who_is_bound_while_a_reload_is_under_way_is_left_too():
    compiler = Compiler(Workload())
    first = Live(compiler.compile(FIXED), 0.0)
    second = Live(compiler.compile([*FIXED, *load(pod("a", "v1", 3))]), 0.0, first)
    late = first.cluster(B)
    assert second.take_left_of(first) == {B: late}


def test_a_reload_keeps_connections_that_are_for_some_alone():
    compiler = Compiler(Workload())
    before = Live(compiler.compile(FIXED), 0.0)
    cluster = before.cluster(A)
    (endpoint,) = cluster.endpoints
    keys = [endpoint, (endpoint, "name"), ((endpoint, "name"), "limits"), (((endpoint, "name"), b"preface"), "guarded")]
    cluster.targets.update((key, object()) for key in keys)
    after = Live(compiler.compile([*FIXED, *load(pod("a", "v1", 3))]), 0.0, before)
    assert after.bound[A] is not cluster
    assert after.bound[A].targets == cluster.targets
    cluster.resolved("a", ("10.0.0.1",), 1.0)
    assert list(cluster.targets) == keys, "nobody has left"


def test_new_addresses_of_a_name_change_no_cluster_that_was_replaced_and_nothing_that_it_shares():
    def named(*names: str) -> list[Any]:
        return load(service_entry("c", "c.test", resolution="DNS", endpoints=[{"address": name} for name in names]))

    key, compiler = "outbound|80||c.test", Compiler(Workload())
    before = Live(compiler.compile(named("a.test")), 0.0)
    old = before.cluster(key)
    after = Live(
        compiler.compile([*named("b.test"), *load(destination_rule("c.test", loadBalancer={"simple": "RANDOM"}))]),
        0.0,
        before,
    )
    new = after.bound[key]
    old.retired = True  # as an installed configuration says
    new.resolved("b.test", ("10.0.0.2",), 1.0)
    assert old.resolved("a.test", ("10.0.0.1",), 2.0) == []
    assert new.state.balancer_name == "RANDOM"
    assert [endpoint.key for endpoint in new.state.endpoints.values()] == ["10.0.0.2:80"]

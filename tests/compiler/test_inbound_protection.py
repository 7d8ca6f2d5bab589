"""Which policy's ``spec.inbound`` a workload obeys, and what it comes to."""

from __future__ import annotations

from meshlib.compiler.compile import Compiler, compile_snapshot
from meshlib.compiler.inbound_protection import HEALTH_CHECKS, SharedCount
from meshlib.policy.request_key import RequestKey
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.protection import REVIEWS, protection
from tests.support.resources import service

ONE = [{"requests": 1}]
ALL = {"selector": {"matchLabels": {"app": "reviews"}}}


def compiled(*resources, workload: Workload = REVIEWS):
    loaded = load_objects(resources)
    assert loaded.errors == []
    snapshot = compile_snapshot(loaded.resources, workload)
    return snapshot.inbound.default.protection, [p for p in snapshot.problems if p.code == "resilience-overlap"]


def test_without_a_policy_there_is_none():
    assert compiled(service("reviews")) == (None, [])


def test_the_most_specific_policy_counts_and_two_alike_are_told_of():
    mesh = protection("mesh", "istio-system", rateLimits=ONE)
    everybody, mine, late = (
        protection(name, spec=spec, rateLimits=ONE) for name, spec in (("a", {}), ("b", ALL), ("c", ALL))
    )
    found, problems = compiled(mesh, everybody, mine, late)
    assert found is not None
    assert found.resource == "ResiliencePolicy/default/b"
    assert [p.path for p in problems] == ["ResiliencePolicy/default/c"]
    assert compiled(mesh, everybody)[0].resource == "ResiliencePolicy/default/a"
    assert compiled(mesh)[0].resource == "ResiliencePolicy/istio-system/mesh"


def test_a_policy_of_another_namespace_says_nothing_of_our_server():
    other = protection(
        namespace="other", spec={"targetRefs": [{"kind": "Service", "name": "reviews", "namespace": "default"}]}
    )
    assert compiled(other, service("reviews"))[0] is None


def test_an_outbound_policy_alone_protects_no_server():
    policy = protection(spec={"host": "reviews", "bulkhead": {"maxConcurrent": 3}})
    del policy["spec"]["inbound"]
    assert compiled(policy, service("reviews"))[0] is None


def test_limits_keep_their_names_keys_and_storages():
    shared = {"redis": {"url": "redis://r"}}
    service_ = {"rateLimitService": {"host": "ratelimit", "port": 8081, "domain": "d"}, "timeout": "50ms"}
    found, _ = compiled(
        protection(
            rateLimits=[{"requests": 5, "key": "principal"}, {"requests": 5, "storage": service_}],
            quotas=[{"requests": 5, "per": "24h", "key": {"claim": "sub"}, "storage": shared, "mode": "shadow"}],
        )
    )
    first, second, quota = found.limits
    assert [limit.name.rpartition(" ")[2] for limit in found.limits] == ["rateLimits[0]", "rateLimits[1]", "quotas[0]"]
    assert (first.key, second.key, quota.key) == (RequestKey("principal"), RequestKey(), RequestKey("claim", "sub"))
    assert first.shared is None
    assert second.shared == SharedCount("", "ratelimit.default.svc.cluster.local", 8081, "d", 0.05)
    assert quota.shared == SharedCount("redis://r")
    assert (quota.shadow, quota.rate.per) == (True, 86400.0)


def test_health_checks_are_known_unless_the_policy_names_others():
    assert len(compiled(protection(maxConcurrent=1))[0].health_checks) == len(HEALTH_CHECKS)
    assert [m.path.value for m in compiled(protection(healthChecks=["/up"]))[0].health_checks] == ["/up"]
    assert compiled(protection(healthChecks=[]))[0].health_checks == ()


def test_a_policy_that_changes_changes_the_server_also_where_nothing_else_is_compiled():
    compiler = Compiler(REVIEWS)
    kept = load_objects([service("reviews"), service("ratings")]).resources

    def limit_of(*policies):
        found = compiler.compile([*kept, *load_objects(policies).resources]).inbound.default.protection
        return None if found is None else found.max_concurrent

    assert [limit_of(protection(maxConcurrent=n)) for n in (1, 2)] == [1, 2]
    assert limit_of() is None
    assert limit_of(protection(spec={"host": "reviews"}, maxConcurrent=3)) == 3

"""Which rules and policies a client gets: Istio's precedence, visibility and defaults."""

from __future__ import annotations

import pytest

from meshlib.compiler.compile import compile_snapshot
from meshlib.compiler.snapshot import Snapshot, split_authority
from meshlib.engine.plain_request import PlainRequest
from meshlib.engine.route import route
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.resources import destination_rule, pod, service, to, virtual_service

PODS = [service("reviews"), pod("reviews", "v1", 1), pod("reviews", "v2", 2)]
SUBSETS = destination_rule("reviews", "v1", "v2")


def snapshot(*resources: dict, workload: Workload | None = None) -> Snapshot:
    result = load_objects(resources)
    assert not result.errors, result.errors
    return compile_snapshot(result.resources, workload or Workload())


def decide(snap: Snapshot, url: str = "http://reviews:9080/", method: str = "GET", **headers: str):
    """(resource, rule, destination host/subset) of a request."""
    scheme, _, rest = url.partition("://")
    authority, slash, target = rest.partition("/")
    view = PlainRequest(method, scheme, authority, slash + target, {k.replace("_", "-"): v for k, v in headers.items()})
    found = route(snap, view)
    rule = found.rule_object
    subset = rule.destinations[0].subset if rule is not None else None
    return found.resource, found.rule, subset


# -- virtual hosts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authority", "split"),
    [
        ("reviews", ("reviews", 0)),
        ("Reviews.:9080", ("reviews", 9080)),
        ("[::1]:80", ("::1", 80)),
        ("[::1]", ("::1", 0)),
        ("::1", ("::1", 0)),
        ("a:b", ("a", 0)),
        ("a:", ("a", 0)),
        ("a:123456", ("a", 0)),
    ],
)
def test_an_authority_is_a_host_and_perhaps_a_port(authority, split):
    assert split_authority(authority) == split


def test_a_host_without_virtual_service_routes_to_its_service_with_default_retries():
    snap = snapshot(*PODS)
    assert decide(snap) == ("", -1, "")
    rule = snap.virtual_host("reviews:9080", "http").single
    assert (rule.timeout, rule.retry.attempts) == (None, 2)
    assert rule.retry.retry_on.text == "connect-failure,refused-stream,cancelled,unavailable"


def test_an_unknown_host_passes_through():
    snap = snapshot(*PODS)
    assert snap.virtual_host("example.com", "https") is snap.passthrough


def test_hosts_that_callers_make_up_are_not_remembered_without_bound(monkeypatch):
    monkeypatch.setattr("meshlib.compiler.snapshot.MAX_SEEN", 5)
    snap = snapshot(*PODS)
    for number in range(20):
        assert snap.virtual_host(f"{number}.example.com", "http") is snap.passthrough
    assert len(snap.seen) == 5
    assert snap.virtual_host("reviews:9080", "http") is not snap.passthrough


def test_a_port_that_the_service_does_not_have_passes_through():
    snap = snapshot(*PODS)
    assert snap.virtual_host("reviews:1234", "http") is snap.passthrough


def test_a_url_without_port_reaches_the_sole_port_of_a_service():
    assert snapshot(*PODS).virtual_host("reviews", "http").port == 9080


def test_of_several_ports_a_url_without_port_means_80():
    ports = [{"name": "http", "port": 80}, {"name": "http-admin", "port": 9000}]
    snap = snapshot(service("reviews", ports=ports))
    assert snap.virtual_host("reviews", "http").port == 80
    assert snap.virtual_host("reviews:9000", "http").port == 9000


def test_the_cluster_ip_is_a_name_of_the_service():
    snap = snapshot(service("reviews", clusterIP="10.1.2.3"))
    assert snap.virtual_host("10.1.2.3:9080", "http").host == "reviews.default.svc.cluster.local"


def test_a_virtual_service_of_a_dotted_short_name_does_not_claim_the_service():
    snap = snapshot(*PODS, SUBSETS, virtual_service("x", {"route": [to("reviews", "v2")]}, hosts=["reviews.default"]))
    assert decide(snap)[0] == ""


def test_a_virtual_service_for_gateways_only_does_nothing_in_the_mesh():
    rule = {"route": [to("reviews", "v2")]}
    assert decide(snapshot(*PODS, SUBSETS, virtual_service("reviews", rule, gateways=["ingress"])))[0] == ""
    both = virtual_service("reviews", rule, gateways=["ingress", "mesh"])
    assert decide(snapshot(*PODS, SUBSETS, both))[0] == "VirtualService/default/reviews"


def test_match_gateways_narrow_a_rule():
    rules = (
        {"match": [{"gateways": ["ingress"]}], "route": [to("reviews", "v2")]},
        {"route": [to("reviews", "v1")]},
    )
    snap = snapshot(*PODS, SUBSETS, virtual_service("reviews", *rules, gateways=["ingress", "mesh"]))
    assert decide(snap)[1:] == (1, "v1")


def test_an_exact_host_shadows_a_wildcard_completely():
    snap = snapshot(
        *PODS,
        SUBSETS,
        virtual_service("wild", {"route": [to("reviews", "v2")]}, hosts=["*.default.svc.cluster.local"]),
        virtual_service("reviews", {"match": [{"uri": {"exact": "/x"}}], "route": [to("reviews", "v1")]}),
    )
    assert decide(snap, "http://reviews:9080/x")[2] == "v1"
    assert decide(snap, "http://reviews:9080/y")[1] is None  # 404, no fall-through


def test_the_most_specific_wildcard_claims_a_service():
    snap = snapshot(
        *PODS,
        SUBSETS,
        virtual_service("wide", {"route": [to("reviews", "v1")]}, hosts=["*.local"]),
        virtual_service("narrow", {"route": [to("reviews", "v2")]}, hosts=["*.default.svc.cluster.local"]),
    )
    assert decide(snap)[0] == "VirtualService/default/narrow"


def test_a_virtual_service_for_a_host_outside_the_registry_works_on_port_80_only():
    snap = snapshot(*PODS, SUBSETS, virtual_service("x", {"route": [to("reviews", "v2", port=9080)]}, hosts=["x.org"]))
    assert decide(snap, "http://x.org/") == ("VirtualService/default/x", 0, "v2")
    assert snap.virtual_host("x.org:8080", "http") is snap.passthrough


def test_of_two_virtual_services_the_oldest_claims_the_host_even_if_its_rules_do_not_match():
    old = virtual_service(
        "old", {"match": [{"uri": {"exact": "/x"}}], "route": [to("reviews", "v1")]}, hosts=["reviews"]
    )
    old["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    new = virtual_service("new", {"route": [to("reviews", "v2")]}, hosts=["reviews"])
    new["metadata"]["creationTimestamp"] = "2021-01-01T00:00:00Z"
    snap = snapshot(*PODS, SUBSETS, new, old)
    assert decide(snap, "http://reviews:9080/x")[0] == "VirtualService/default/old"
    assert decide(snap, "http://reviews:9080/y")[:2] == ("VirtualService/default/old", None)


def test_a_virtual_service_none_of_whose_rules_is_for_this_client_is_as_good_as_absent():
    old = virtual_service(
        "a", {"match": [{"sourceLabels": {"app": "x"}}], "route": [to("reviews", "v1")]}, hosts=["reviews"]
    )
    new = virtual_service("b", {"route": [to("reviews", "v2")]}, hosts=["reviews"])
    assert decide(snapshot(*PODS, SUBSETS, old, new))[0] == "VirtualService/default/b"
    assert decide(snapshot(*PODS, SUBSETS, old)) == ("", -1, "")
    mine = Workload(labels={"app": "x"})
    assert decide(snapshot(*PODS, SUBSETS, old, new, workload=mine))[2] == "v1"


def test_export_to_hides_a_virtual_service_from_other_namespaces():
    rule = {"route": [to("reviews.default.svc.cluster.local", "v2")]}
    hidden = virtual_service("reviews", rule, exportTo=["."])
    url = "http://reviews.default:9080/"
    assert decide(snapshot(*PODS, SUBSETS, hidden), url)[2] == "v2"
    assert decide(snapshot(*PODS, SUBSETS, hidden, workload=Workload(namespace="dev")), url)[0] == ""


def test_short_hosts_belong_to_the_namespace_of_the_virtual_service():
    elsewhere = virtual_service("reviews", {"route": [to("reviews", "v2")]}, namespace="prod")
    assert decide(snapshot(*PODS, SUBSETS, elsewhere))[0] == ""


@pytest.mark.parametrize(
    ("match", "workload", "taken"),
    [
        ({"sourceNamespace": "default"}, Workload(), True),
        ({"sourceNamespace": "prod"}, Workload(), False),
        ({"sourceLabels": {"a": "b"}}, Workload(labels={"a": "b", "c": "d"}), True),
        ({"sourceLabels": {"a": "b"}}, Workload(labels={"a": "x"}), False),
        ({"port": 9080}, Workload(), True),
        ({"port": 80}, Workload(), False),
        ({"gateways": ["mesh"], "sourceLabels": {"a": "b"}}, Workload(), True),
    ],
)
def test_facts_about_the_client_are_decided_when_compiling(match, workload, taken):
    rules = ({"match": [match], "route": [to("reviews", "v2")]}, {"route": [to("reviews", "v1")]})
    snap = snapshot(*PODS, SUBSETS, virtual_service("reviews", *rules), workload=workload)
    assert decide(snap)[2] == ("v2" if taken else "v1")


# -- matching, end to end (the acceptance vectors of the reference) ----------------------------------------------------


@pytest.mark.parametrize(
    ("match", "request_", "hit"),
    [
        ({"uri": {"prefix": "/foo"}}, {"url": "/foobar"}, True),
        ({"uri": {"prefix": "/foo"}}, {"url": "/foo?x=1"}, True),
        ({"uri": {"prefix": "/foo"}}, {"url": "/fo"}, False),
        ({"uri": {"exact": "/Foo"}, "ignoreUriCase": True}, {"url": "/foo"}, True),
        ({"uri": {"regex": "/Foo"}, "ignoreUriCase": True}, {"url": "/foo"}, False),
        ({"uri": {"regex": "foo"}}, {"url": "/foo"}, False),
        ({"uri": {"regex": "/fo+"}}, {"url": "/foo"}, True),
        ({"uri": {"regex": "/fo+"}}, {"url": "/foo/x"}, False),
        ({"uri": {"exact": "/foo"}}, {"url": "/foo?q=1"}, True),
        ({"uri": {"exact": "/foo"}}, {"url": "/foo;x"}, False),
        ({"withoutHeaders": {"x": {"exact": "a"}}}, {}, True),
        ({"withoutHeaders": {"x": {"exact": "a"}}}, {"x": "a"}, False),
        ({"withoutHeaders": {"x": {"exact": "a"}}}, {"x": "b"}, True),
        ({"withoutHeaders": {"x": {}}}, {}, True),
        ({"withoutHeaders": {"x": {}}}, {"x": ""}, False),
        ({"queryParams": {"q": {"exact": "a b"}}}, {"url": "/?q=a%20b"}, False),
        ({"queryParams": {"q": {"exact": "a b"}}}, {"url": "/?q=a+b"}, False),
        ({"queryParams": {"q": {"exact": "1"}}}, {"url": "/?q=1&q=2"}, True),
        ({"queryParams": {"q": {"exact": "2"}}}, {"url": "/?q=1&q=2"}, False),
        ({"queryParams": {"q": {}}}, {"url": "/?q"}, True),
        ({"headers": {"End-User": {"exact": "jason"}}}, {"end_user": "jason"}, True),
        ({"headers": {"x": {}}}, {"x": ""}, True),
        ({"headers": {"x": {"exact": ""}}}, {}, False),
        ({"method": {"exact": "GET"}}, {"method": "POST"}, False),
        ({"authority": {"exact": "reviews:9080"}}, {}, True),
        ({"authority": {"exact": "reviews"}}, {}, False),
        ({"scheme": {"exact": "https"}}, {}, False),
        ({"uri": {"prefix": "/a"}, "headers": {"x": {"exact": "1"}}}, {"url": "/a"}, False),
    ],
)
def test_match_vectors(match, request_, hit):
    request = dict(request_)
    url = "http://reviews:9080" + request.pop("url", "/")
    snap = snapshot(*PODS, SUBSETS, virtual_service("reviews", {"match": [match], "route": [to("reviews", "v2")]}))
    assert (decide(snap, url, **request)[1] == 0) is hit


def test_the_first_rule_that_matches_wins_not_the_most_specific():
    rules = [{"match": [{"uri": {"prefix": "/a"}}], "route": [to("reviews", "v1")]}]
    rules += [{"match": [{"uri": {"exact": f"/a/{n}"}}], "route": [to("reviews", "v2")]} for n in range(40)]
    snap = snapshot(*PODS, SUBSETS, virtual_service("reviews", *rules))
    assert decide(snap, "http://reviews:9080/a/7")[1] == 0


# -- destinations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "missing"),
    [
        (to("nobody"), "host nobody.default.svc.cluster.local is not in the registry"),
        (to("reviews", "v9"), "has no subset v9: DestinationRule/default/reviews has v1, v2"),
        (to("reviews", "v1", port=1), "has no port 1 (it has 9080)"),
    ],
)
def test_a_destination_that_is_not_there_is_reported_and_has_no_cluster(target, missing):
    snap = snapshot(*PODS, SUBSETS, virtual_service("reviews", {"route": [target]}))
    rule = snap.virtual_host("reviews:9080", "http").single
    assert rule.destinations[0].cluster == ""
    (problem,) = [p for p in snap.problems if p.code == "unknown-destination"]
    assert missing in problem.message


def test_a_subset_is_the_endpoints_that_carry_its_labels():
    snap = snapshot(*PODS, SUBSETS, virtual_service("reviews", {"route": [to("reviews", "v2")]}))
    cluster = snap.clusters["outbound|9080|v2|reviews.default.svc.cluster.local"]
    assert [e.key for e in cluster.endpoints] == ["127.0.0.1:2"]


def test_the_default_balancer_is_least_request_and_least_conn_means_it():
    snap = snapshot(*PODS)
    assert snap.clusters["outbound|9080||reviews.default.svc.cluster.local"].balancer == "LEAST_REQUEST"
    snap = snapshot(*PODS, destination_rule("reviews", loadBalancer={"simple": "LEAST_CONN"}))
    assert snap.clusters["outbound|9080||reviews.default.svc.cluster.local"].balancer == "LEAST_REQUEST"


def rule_in(namespace: str, balancer: str, host: str = "reviews.default.svc.cluster.local", **spec) -> dict:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": f"in-{namespace}", "namespace": namespace},
        "spec": {"host": host, "trafficPolicy": {"loadBalancer": {"simple": balancer}}, **spec},
    }


def balancer(snap: Snapshot) -> str:
    return snap.clusters["outbound|9080||reviews.default.svc.cluster.local"].balancer


def test_destination_rules_are_looked_up_in_the_clients_the_services_and_the_root_namespace():
    mine, theirs, root = (
        rule_in("dev", "RANDOM"),
        rule_in("default", "ROUND_ROBIN"),
        rule_in("istio-system", "LEAST_REQUEST"),
    )
    client = Workload(namespace="dev")
    assert balancer(snapshot(*PODS, mine, theirs, root, workload=client)) == "RANDOM"
    assert balancer(snapshot(*PODS, theirs, root, workload=client)) == "ROUND_ROBIN"
    assert balancer(snapshot(*PODS, rule_in("istio-system", "RANDOM"), workload=client)) == "RANDOM"
    assert balancer(snapshot(*PODS, rule_in("elsewhere", "RANDOM"), workload=client)) == "LEAST_REQUEST"


def test_a_client_in_the_root_namespace_obeys_the_services_own_rule_before_those_for_everybody():
    client = Workload(namespace="istio-system")
    theirs, root = rule_in("default", "ROUND_ROBIN"), rule_in("istio-system", "RANDOM")
    assert balancer(snapshot(*PODS, theirs, root, workload=client)) == "ROUND_ROBIN"
    assert balancer(snapshot(*PODS, root, workload=client)) == "RANDOM"
    assert balancer(snapshot(*PODS, theirs, workload=client)) == "ROUND_ROBIN"
    for private in ({"exportTo": ["."]}, {"exportTo": ["istio-system"]}):
        mine = rule_in("istio-system", "RANDOM", **private)
        assert balancer(snapshot(*PODS, theirs, mine, workload=client)) == "RANDOM"


def test_a_destination_rule_that_is_not_exported_does_not_count_elsewhere():
    hidden = rule_in("default", "RANDOM", exportTo=["."])
    assert balancer(snapshot(*PODS, hidden)) == "RANDOM"
    assert balancer(snapshot(*PODS, hidden, workload=Workload(namespace="dev"))) == "LEAST_REQUEST"


def test_an_exact_destination_rule_beats_a_wildcard():
    wide = rule_in("default", "RANDOM", host="*.default.svc.cluster.local")
    wide["metadata"]["name"] = "wide"
    assert balancer(snapshot(*PODS, wide)) == "RANDOM"
    assert balancer(snapshot(*PODS, wide, rule_in("default", "ROUND_ROBIN"))) == "ROUND_ROBIN"


def test_several_destination_rules_of_a_host_merge_subsets_and_the_oldest_policy_counts():
    first = destination_rule("reviews", "v1", loadBalancer={"simple": "RANDOM"})
    first["metadata"]["name"] = "a"
    second = destination_rule("reviews", "v1", "v2", loadBalancer={"simple": "ROUND_ROBIN"})
    second["metadata"]["name"] = "b"
    snap = snapshot(*PODS, second, first, virtual_service("reviews", {"route": [to("reviews", "v2")]}))
    v2 = snap.clusters["outbound|9080|v2|reviews.default.svc.cluster.local"]
    assert (v2.balancer, [e.key for e in v2.endpoints]) == ("RANDOM", ["127.0.0.1:2"])
    assert {p.code for p in snap.problems} == {"destination-rule-overlap"}


def test_policy_blocks_come_from_the_subset_else_from_the_rule_whole():
    rule = destination_rule(
        "reviews",
        "v1",
        loadBalancer={"simple": "RANDOM"},
        connectionPool={"http": {"http2MaxRequests": 5}, "tcp": {"maxConnections": 7}},
    )
    rule["spec"]["subsets"][0]["trafficPolicy"] = {"connectionPool": {"http": {"http2MaxRequests": 9}}}
    snap = snapshot(*PODS, rule, virtual_service("reviews", {"route": [to("reviews", "v1")]}))
    v1 = snap.clusters["outbound|9080|v1|reviews.default.svc.cluster.local"]
    assert (v1.balancer, v1.limits.http2_max_requests, v1.limits.max_connections) == ("RANDOM", 9, 2**32 - 1)


def test_a_port_level_entry_replaces_its_level_whole():
    policy = {
        "outlierDetection": {"consecutive5xxErrors": 1},
        "portLevelSettings": [{"port": {"number": 9080}, "loadBalancer": {"simple": "RANDOM"}}],
    }
    snap = snapshot(*PODS, destination_rule("reviews", **policy))
    cluster = snap.clusters["outbound|9080||reviews.default.svc.cluster.local"]
    assert (cluster.balancer, cluster.outlier) == ("RANDOM", None)


def test_limits_of_zero_mean_the_default():
    pool = {"tcp": {"maxConnections": 0}, "http": {"http1MaxPendingRequests": 0}}
    snap = snapshot(*PODS, destination_rule("reviews", connectionPool=pool))
    limits = snap.clusters["outbound|9080||reviews.default.svc.cluster.local"].limits
    assert (limits.max_connections, limits.http1_max_pending_requests) == (2**32 - 1, 2**32 - 1)


def test_fields_without_effect_are_named_with_their_resource():
    extra = {
        "apiVersion": "extensions.istio.io/v1alpha1",
        "kind": "WasmPlugin",
        "metadata": {"name": "quiet"},
        "spec": {"url": "oci://example.com/w:1"},
    }
    snap = snapshot(*PODS, destination_rule("reviews", proxyProtocol={"version": "V2"}, tls={"mode": "DISABLE"}), extra)
    notices = {p.path: p.message for p in snap.problems if p.code == "no-effect"}
    assert notices == {
        "DestinationRule/default/reviews": "no effect: trafficPolicy.proxyProtocol "
        "(a header of connections that a proxy forwards; `meshlib proxy` sends it)",
        "WasmPlugin/default/quiet": "WasmPlugin loads and has no effect: Wasm runs in Envoy",
    }


# -- old spellings, and who obeys -------------------------------------------------------------------------------------


def the_cluster(*resources: dict, workload: Workload | None = None):
    snap = snapshot(*PODS, *resources, workload=workload)
    return snap.clusters["outbound|9080||reviews.default.svc.cluster.local"]


def test_minimum_ring_size_of_old_files_is_that_of_the_ring():
    found = the_cluster(
        destination_rule(
            "reviews", loadBalancer={"consistentHash": {"httpHeaderName": "X-User", "minimumRingSize": 77}}
        )
    )
    assert (found.hash_policy.size, found.hash_policy.header, found.balancer) == (77, "x-user", "RING_HASH")


def test_warmup_duration_secs_of_old_files_is_warmup():
    assert the_cluster(destination_rule("reviews", loadBalancer={"warmupDurationSecs": "9s"})).slow_start.window == 9.0


def test_warmup_is_for_the_balancers_that_have_weights():
    policy = {"simple": "RANDOM", "warmup": {"duration": "9s"}}
    assert the_cluster(destination_rule("reviews", loadBalancer=policy)).slow_start is None


def test_locality_lb_setting_may_be_turned_off():
    places = [pod("reviews", "v1", 3), pod("reviews", "v1", 4)]
    for one, place in zip(places, ("us.west", "us.east"), strict=True):
        one["metadata"]["labels"]["istio-locality"] = place
    policy = {"outlierDetection": {"interval": "1s"}}
    here = Workload(locality="us/west")
    assert the_cluster(*places, destination_rule("reviews", **policy), workload=here).placement is not None
    off = {**policy, "loadBalancer": {"localityLbSetting": {"enabled": False}}}
    assert the_cluster(*places, destination_rule("reviews", **off), workload=here).placement is None


def test_a_workload_selector_chooses_the_clients_that_obey():
    rule = destination_rule("reviews", loadBalancer={"simple": "RANDOM"})
    rule["spec"]["workloadSelector"] = {"matchLabels": {"app": "page"}}
    assert the_cluster(rule, workload=Workload(labels={"app": "page"})).balancer == "RANDOM"
    assert the_cluster(rule, workload=Workload(labels={"app": "other"})).balancer == "LEAST_REQUEST"
    elsewhere = {**rule, "metadata": {"name": "reviews", "namespace": "istio-system"}}
    assert the_cluster(elsewhere, workload=Workload(labels={"app": "page"})).balancer == "LEAST_REQUEST"


def test_a_rule_for_selected_workloads_goes_before_an_older_one_for_all():
    plain = destination_rule("reviews", loadBalancer={"simple": "RANDOM"})
    plain["metadata"] |= {"name": "a", "creationTimestamp": "2020-01-01T00:00:00Z"}
    chosen = destination_rule("reviews", loadBalancer={"simple": "ROUND_ROBIN"})
    chosen["metadata"] |= {"name": "b", "creationTimestamp": "2024-01-01T00:00:00Z"}
    chosen["spec"]["workloadSelector"] = {"matchLabels": {"app": "page"}}
    assert the_cluster(plain, chosen, workload=Workload(labels={"app": "page"})).balancer == "ROUND_ROBIN"
    assert the_cluster(plain, chosen, workload=Workload(labels={"app": "other"})).balancer == "RANDOM"


def test_two_virtual_services_that_claim_a_host_are_reported_with_the_one_that_counts():
    older = virtual_service("a", {"route": [to("reviews")]}, hosts=["reviews"])
    older["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    newer = virtual_service("b", {"route": [to("reviews")]}, hosts=["reviews.default.svc.cluster.local"])
    newer["metadata"]["creationTimestamp"] = "2021-01-01T00:00:00Z"
    (problem,) = [p for p in snapshot(*PODS, newer, older).problems if p.code == "host-claimed-twice"]
    assert problem.path == "VirtualService/default/b spec.hosts"
    assert "VirtualService/default/a claims reviews.default.svc.cluster.local already" in problem.message


def test_a_mirror_to_the_destination_itself_is_reported():
    rule = {"route": [to("reviews")], "mirror": {"host": "reviews"}}
    (problem,) = [p for p in snapshot(*PODS, virtual_service("reviews", rule)).problems if p.code == "mirror-to-itself"]
    assert problem.path == "VirtualService/default/reviews spec.http[0].mirror"


@pytest.mark.parametrize(
    ("subset_policy", "balancer", "connections"),
    [
        (None, "RANDOM", 7),
        ({"loadBalancer": {"simple": "ROUND_ROBIN"}}, "ROUND_ROBIN", 7),
        (
            {
                "loadBalancer": {"simple": "ROUND_ROBIN"},
                "portLevelSettings": [{"port": {"number": 80}, "loadBalancer": {"simple": "RANDOM"}}],
            },
            "ROUND_ROBIN",
            7,
        ),
        # a port of a subset inherits nothing, neither from the subset nor from the rule
        ({"portLevelSettings": [{"port": {"number": 9080}, "outlierDetection": {}}]}, "LEAST_REQUEST", 2**32 - 1),
        (
            {
                "loadBalancer": {"simple": "ROUND_ROBIN"},
                "portLevelSettings": [{"port": {"number": 9080}, "connectionPool": {"tcp": {"maxConnections": 3}}}],
            },
            "LEAST_REQUEST",
            3,
        ),
    ],
)
def test_a_subsets_policy_lies_over_the_rules_and_a_port_of_it_replaces_both(subset_policy, balancer, connections):
    rule = destination_rule(
        "reviews", "v1", loadBalancer={"simple": "RANDOM"}, connectionPool={"tcp": {"maxConnections": 7}}
    )
    if subset_policy:
        rule["spec"]["subsets"][0]["trafficPolicy"] = subset_policy
    snap = snapshot(*PODS, rule, virtual_service("reviews", {"route": [to("reviews", "v1")]}))
    found = snap.clusters["outbound|9080|v1|reviews.default.svc.cluster.local"]
    assert (found.balancer, found.limits.max_connections) == (balancer, connections)

"""Subsets that are named and not defined, or defined and empty."""

from __future__ import annotations

from tests.support.analysis import expect

CART = """
apiVersion: v1
kind: Service
metadata: {name: cart}
spec: {selector: {app: cart}, ports: [{name: http, port: 80}]}
---
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: cart-1, labels: {app: cart, version: v1}}
spec: {containers: [{name: cart}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stock-1, labels: {app: stock, version: v2}}
spec: {containers: [{name: stock}]}
---
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cart}
spec:
  host: cart
  subsets:
  - name: stable
    labels: {version: v1}
---
"""


def route(host: str, subset: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: cart}}
spec:
  hosts: [cart]
  http:
  - route:
    - destination:
        host: {host}
        subset: {subset}
"""


def test_a_subset_that_no_rule_defines():
    (found,) = expect(CART + RULE + route("cart", "stabel  # IST0101"), "IST0101")
    assert found.hint == "did you mean stable?"


def test_the_hint_lists_what_there_is_when_nothing_is_near():
    (found,) = expect(CART + RULE + route("cart", "canary  # IST0101"), "IST0101")
    assert found.hint == "DestinationRule/default/cart has stable"


def test_a_rule_and_a_route_may_write_the_host_differently():
    expect(CART + RULE + route("cart.default.svc.cluster.local", "stable"), "IST0101")


def test_where_no_rule_is_for_the_host_the_hint_says_so():
    (found,) = expect(CART + route("cart", "stable  # IST0101"), "IST0101")
    assert found.hint == "add a DestinationRule for cart with that subset"


def test_an_unknown_host_is_said_once():
    expect(CART + RULE + route("crat  # IST0101", "stable"), "IST0101")


def test_a_subset_that_selects_none_of_the_pods_of_the_service():
    expect(CART + POD + RULE, "IST0173")
    (found,) = expect(CART + POD + RULE.replace("{version: v1}", "{version: v2}  # IST0173"), "IST0173")
    assert found.hint == "version is v1 there"


def test_without_any_workload_nothing_is_known_of_subsets():
    expect(CART + RULE, "IST0173")


def test_deployments_stand_for_the_pods_they_will_make():
    deployment = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart-v1}
spec:
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart, version: v1}}
    spec: {containers: [{name: cart}]}
---
"""
    expect(CART + deployment + RULE, "IST0173")
    expect(CART + deployment.replace("Deployment", "StatefulSet") + RULE, "IST0173")
    marked = RULE.replace("{version: v1}", "{version: v1}  # IST0173")
    expect(CART + deployment.replace("version: v1}}", "version: v3}}") + marked, "IST0173")


def test_labels_of_the_node_count():
    node = """
apiVersion: v1
kind: Node
metadata: {name: node-1, labels: {topology.kubernetes.io/zone: eu-1a}}
---
"""
    pod = POD.replace("{containers: [{name: cart}]}", "{nodeName: node-1, containers: [{name: cart}]}")
    expect(CART + node + pod + RULE.replace("{version: v1}", "{topology.kubernetes.io/zone: eu-1a}"), "IST0173")
    rule = RULE.replace("{version: v1}", "{topology.kubernetes.io/zone: eu-1b}  # IST0173")
    expect(CART + node + pod + rule, "IST0173")


def test_endpoints_of_a_service_entry_are_what_its_subsets_select():
    entry = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank}
spec:
  hosts: [bank.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1, labels: {version: v1}}]
---
"""
    good = RULE.replace("host: cart", "host: bank.example")
    expect(entry + POD + good, "IST0173", "IST0174")
    expect(entry + POD + good.replace("{version: v1}", "{version: v2}  # IST0173"), "IST0173", "IST0174")


def test_a_rule_for_a_host_that_nobody_has():
    (found,) = expect(CART + RULE.replace("host: cart", "host: carts  # IST0174"), "IST0173", "IST0174")
    assert found.hint == "did you mean cart?"


def test_a_wildcard_rule_is_for_the_hosts_below_it():
    rule = RULE.replace("host: cart", 'host: "*.local"')
    expect(CART + rule, "IST0174")
    expect(CART + rule.replace('"*.local"', '"*.example"  # IST0174'), "IST0174")


LOCAL = """
apiVersion: meshlib.dev/v1
kind: LocalEndpoints
metadata: {name: local}
spec: {hosts: [{host: cart, subset: stable, addresses: [":1"]}]}
---
"""


def test_a_host_that_only_a_local_endpoints_has_is_there_with_its_subsets():
    expect(LOCAL + RULE + route("cart", "stable"), "IST0101", "IST0174")
    expect(RULE.replace("host: cart", "host: cart  # IST0174"), "IST0174")


def test_the_pods_of_a_host_with_local_endpoints_do_not_matter():
    relabelled = RULE.replace("{version: v1}", "{version: v2}")
    expect(CART + POD + relabelled.replace("{version: v2}", "{version: v2}  # IST0173"), "IST0173")
    expect(CART + POD + LOCAL + relabelled, "IST0173")

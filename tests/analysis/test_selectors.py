"""Sidecars, Telemetries and policies: which workloads they select."""

from __future__ import annotations

from tests.support.analysis import expect


def pod(name: str, labels: str, namespace: str = "default", more: str = "") -> str:
    return f"""
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {namespace}
  labels: {labels}
  {more}
spec: {{containers: [{{name: app}}]}}
---
"""


def sidecar(name: str, labels: str = "", namespace: str = "default", mark: str = "") -> str:
    selector = f"  workloadSelector:\n    labels:  # {mark}\n      {labels}" if labels else ""
    return f"""
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: {name}, namespace: {namespace}}}
spec:{"  # " + mark if mark and not labels else ""}
{selector}
  egress: [{{hosts: ["./*"]}}]
---
"""


def telemetry(name: str, labels: str = "", mark: str = "") -> str:
    selector = f"  selector:\n    matchLabels:  # {mark}\n      {labels}" if labels else ""
    return f"""
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: {name}}}
spec:{"  # " + mark if mark and not labels else ""}
{selector}
  accessLogging: [{{providers: [{{name: envoy}}]}}]
---
"""


CART = pod("cart-1", "{app: cart, version: v1}") + pod("cart-2", "{app: cart, version: v1}")


def test_two_sidecars_for_a_whole_namespace():
    expect(sidecar("one", mark="IST0111") + sidecar("other", mark="IST0111"), "IST0110", "IST0111")
    expect(sidecar("one") + sidecar("other", namespace="backend"), "IST0110", "IST0111")
    expect(sidecar("one") + CART + sidecar("other", "app: cart"), "IST0110", "IST0111")


def test_two_sidecars_for_a_workload():
    text = sidecar("one", "app: cart", mark="IST0110") + sidecar("other", "version: v1", mark="IST0110")
    found = expect(CART + text, "IST0110", "IST0111")
    assert len(found) == 2, "once a Sidecar, not once a replica"
    expect(CART + sidecar("one", "app: cart"), "IST0110")


def test_a_sidecar_that_selects_nothing():
    (found,) = expect(CART + sidecar("one", "app: crat  # IST0101"), "IST0101")
    assert found.hint == "did you mean app: cart?"
    (found,) = expect(CART + sidecar("one", "app: cart  # IST0101", "backend"), "IST0101")
    assert "namespace default" in found.hint
    expect(sidecar("one", "app: crat"), "IST0101")  # no workload is known


def test_a_sidecar_in_ambient_mode_does_nothing():
    namespace = """
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio.io/dataplane-mode: ambient}}
---
"""
    text = sidecar("one").replace("kind: Sidecar", "kind: Sidecar  # IST0167")
    expect(namespace + text, "IST0111", "IST0167")
    expect(namespace.replace("ambient", "none") + sidecar("one"), "IST0167")
    redirected = pod("cart", "{app: cart}", more="annotations: {ambient.istio.io/redirection: enabled}")
    expect(redirected + sidecar("one", "app: cart", mark="IST0167"), "IST0110", "IST0167")


def test_telemetries_conflict_as_sidecars_do():
    expect(telemetry("one", mark="IST0160") + telemetry("other", mark="IST0160"), "IST0159", "IST0160")
    two = telemetry("one", "app: cart", "IST0159") + telemetry("other", "version: v1", "IST0159")
    expect(CART + two, "IST0159", "IST0160")
    expect(CART + telemetry("one", "app: cart") + telemetry("other"), "IST0159", "IST0160")
    expect(CART + telemetry("one", "app: nobody  # IST0101"), "IST0101")


GATEWAY_POD = pod("edge", "{gateway.networking.k8s.io/gateway-name: edge}")
POLICIES = {
    "AuthorizationPolicy": ("security.istio.io/v1", "rules: [{}]"),
    "RequestAuthentication": ("security.istio.io/v1", "jwtRules: [{issuer: a, jwksUri: https://a.example/keys}]"),
    "Telemetry": ("telemetry.istio.io/v1", "accessLogging: [{providers: [{name: envoy}]}]"),
    "WasmPlugin": ("extensions.istio.io/v1alpha1", "url: oci://a.example/x"),
}


def policy(kind: str, target: str) -> str:
    version, more = POLICIES[kind]
    return f"""
apiVersion: {version}
kind: {kind}
metadata: {{name: one}}
spec:
  {target}
  {more}
---
"""


def test_a_selector_has_no_effect_on_gateways_of_the_gateway_api():
    for kind in POLICIES:
        selector = "selector: {matchLabels: {gateway.networking.k8s.io/gateway-name: edge}}  # IST0166"
        (found,) = expect(GATEWAY_POD + policy(kind, selector), "IST0166")
        assert "targetRefs" in found.hint


def test_a_selector_of_other_workloads_has():
    for kind in POLICIES:
        expect(GATEWAY_POD + CART + policy(kind, "selector: {matchLabels: {app: cart}}"), "IST0166")


def test_an_authorization_policy_that_selects_nothing():
    text = CART + policy("AuthorizationPolicy", "selector: {matchLabels: {app: crat}}  # IST0127")
    (found,) = expect(text, "IST0127")
    assert found.hint == "did you mean app: cart?"
    expect(CART + policy("AuthorizationPolicy", "selector: {matchLabels: {app: cart}}"), "IST0127")
    expect(policy("AuthorizationPolicy", "selector: {matchLabels: {app: cart}}"), "IST0127")


def test_an_authorization_policy_of_the_root_namespace_is_for_all():
    text = policy("AuthorizationPolicy", "selector: {matchLabels: {app: cart}}").replace(
        "one}", "one, namespace: istio-system}"
    )
    expect(CART + text, "IST0127")
    expect(CART + text.replace("app: cart}}", "app: crat}}  # IST0127"), "IST0127")


def test_an_authorization_policy_of_a_namespace_without_workloads():
    text = policy("AuthorizationPolicy", "").replace(
        "metadata: {name: one}", "metadata:\n  name: one\n  namespace: empty  # IST0127"
    )
    expect(CART + text, "IST0127")

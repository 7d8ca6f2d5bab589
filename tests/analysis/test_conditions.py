"""What a cluster says in the status."""

from __future__ import annotations

from tests.support.analysis import expect

POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: one}
spec: {rules: [{}]}
status:
  conditions:
"""


def test_a_policy_that_was_not_taken():
    text = (
        POLICY
        + """
  - {type: WaypointAccepted, status: "False", reason: Invalid, message: no such waypoint}  # IST0171
  - {type: ZtunnelAccepted, status: "True", reason: Accepted}
  - {type: SomethingElse, status: "False"}
"""
    )
    (found,) = expect(text, "IST0171")
    assert "no such waypoint" in found.message


def test_a_policy_that_was_taken_in_part():
    expect(POLICY + '  - {type: WaypointAccepted, status: "True", reason: PartiallyInvalid}  # IST0171\n', "IST0171")
    expect(POLICY + '  - {type: WaypointAccepted, status: "True", reason: Accepted}\n', "IST0171")


def test_a_route_of_the_gateway_api():
    text = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec: {}
status:
  parents:
  - conditions:
    - {type: Accepted, status: "True"}
    - {type: ResolvedRefs, status: "False", reason: BackendNotFound}  # IST0171
"""
    expect(text, "IST0171")

"""Hosts that several VirtualServices claim."""

from __future__ import annotations

from tests.support.analysis import expect


def claim(name: str, hosts: str, namespace: str = "default", more: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  hosts: {hosts}
  {more}
  http: [{{route: [{{destination: {{host: cart}}}}]}}]
---
"""


def test_two_that_claim_the_same_host_each_get_it_at_that_host():
    text = claim("a", "[cart]  # IST0109") + claim("b", "[cart.default.svc.cluster.local]  # IST0109")
    found = expect(text, "IST0109")
    assert ["VirtualService/default/b" in found[0].message, "VirtualService/default/a" in found[1].message] == [
        True
    ] * 2


def test_short_names_of_two_namespaces_are_two_hosts():
    expect(claim("a", "[cart]") + claim("b", "[cart]", "backend"), "IST0109")


def test_gateways_have_hosts_of_their_own():
    expect(claim("a", "[cart]") + claim("b", "[cart]", more="gateways: [edge]"), "IST0109")
    both = claim("a", "[cart]  # IST0109") + claim("b", "[cart]  # IST0109", more="gateways: [edge, mesh]")
    expect(both, "IST0109")


def test_namespaces_that_do_not_see_each_other_do_not_conflict():
    own = 'exportTo: ["."]'
    expect(claim("a", "[x.example]", "one", own) + claim("b", "[x.example]", "two", own), "IST0109")


def test_what_everybody_sees_is_seen_by_a_namespace_with_its_own():
    text = claim("a", "[x.example]  # IST0109", "one", 'exportTo: ["."]') + claim("b", "[x.example]  # IST0109", "two")
    expect(text, "IST0109")
    wild = claim("a", "[x.example]  # IST0109", "one", 'exportTo: ["."]') + claim(
        "b", '["*.example"]  # IST0109', "two"
    )
    expect(wild, "IST0109")


def test_a_wildcard_for_all_and_a_host_for_all_do_not_conflict():
    expect(claim("a", "[x.example]") + claim("b", '["*.example"]'), "IST0109")

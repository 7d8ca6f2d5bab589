"""Rules that no request reaches."""

from __future__ import annotations

from meshlib.errors import Severity
from tests.support.analysis import expect

CODES = ("IST0130", "IST0131")


def rules(text: str, kind: str = "http") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: cart}}
spec:
  hosts: [cart.example]
  {kind}:
{text}
"""


ROUTE = "route: [{destination: {host: cart}}]"


def test_what_follows_a_rule_without_match():
    text = f"""
  - {ROUTE}
  - {ROUTE}  # IST0130
  - match:
    - uri: {{prefix: /a}}  # IST0130
    {ROUTE}
"""
    found = expect(rules(text), *CODES)
    assert found[0].code.severity is Severity.WARNING
    assert "http[0]" in found[0].message


def test_a_last_rule_without_match_takes_the_rest():
    expect(rules(f"\n  - match: [{{uri: {{prefix: /a}}}}]\n    {ROUTE}\n  - {ROUTE}\n"), *CODES)


def test_a_match_that_stands_in_a_rule_before():
    text = f"""
  - match:
    - uri: {{exact: /a}}
      name: one
      headers: {{x: {{exact: "1"}}, y: {{}}}}
    {ROUTE}
  - name: second
    match:
    - uri: {{exact: /b}}
    - headers: {{y: {{}}, x: {{exact: "1"}}}}  # IST0131
      uri: {{exact: /a}}
    {ROUTE}
"""
    (found,) = expect(rules(text), *CODES)
    assert found.code.severity is Severity.NOTICE


def test_a_rule_all_of_whose_matches_stand_before():
    text = f"""
  - match: [{{uri: {{exact: /a}}}}, {{uri: {{exact: /b}}}}]
    {ROUTE}
  - name: second  # IST0130
    match:
    - uri: {{exact: /b}}  # IST0131
    {ROUTE}
"""
    expect(rules(text), *CODES)


def test_a_prefix_that_a_shorter_one_before_covers():
    text = f"""
  - match: [{{uri: {{prefix: /api}}}}]
    {ROUTE}
  - match:
    - uri: {{prefix: /api/v2}}  # IST0131
    - uri: {{prefix: /other}}
    {ROUTE}
"""
    (found,) = expect(rules(text), *CODES)
    assert found.hint == "put the longer prefix first"


def test_prefixes_under_other_conditions_do_not_cover_each_other():
    for condition in (
        "port: 80",
        "sourceNamespace: other",
        "gateways: [edge]",
        "sourceLabels: {app: a}",
        "headers: {x: {exact: a}}",
        "method: {exact: POST}",
        "queryParams: {q: {exact: a}}",
    ):
        text = f"""
  - match: [{{uri: {{prefix: /api}}, {condition}}}]
    {ROUTE}
  - match: [{{uri: {{prefix: /api/v2}}}}]
    {ROUTE}
"""
        expect(rules(text), *CODES)


def test_a_rule_with_a_delegate_takes_only_what_the_delegate_matches():
    text = f"""
  - delegate: {{name: cart}}
  - match: [{{uri: {{prefix: /a}}}}]
    delegate: {{name: cart}}
  - match: [{{uri: {{prefix: /a}}}}, {{uri: {{prefix: /a/b}}}}]
    {ROUTE}
  - {ROUTE}
  - delegate: {{name: cart}}  # IST0130
"""
    expect(rules(text), "IST0130")


def test_tcp_and_tls_rules_are_looked_at_too():
    tcp = f"""
  - {ROUTE}
  - match:
    - port: 99  # IST0130
    {ROUTE}
"""
    expect(rules(tcp, "tcp"), *CODES)
    tls = f"""
  - match: [{{sniHosts: [a.example]}}]
    {ROUTE}
  - match:  # IST0130
    - sniHosts: [a.example]  # IST0131
    {ROUTE}
"""
    expect(rules(tls, "tls"), *CODES)


def test_matches_that_cannot_be_read_are_not_compared():
    text = f"""
  - match: [{{port: a}}]
    {ROUTE}
  - match: [{{port: b}}]
    {ROUTE}
"""
    expect(rules(text), *CODES)

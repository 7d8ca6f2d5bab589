"""TLS to servers whose certificate nobody checks."""

from __future__ import annotations

from meshlib.errors import Severity
from tests.support.analysis import expect

CODES = ("IST0128", "IST0129")


def rule(policy: str, more: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: bank}}
spec:
  host: bank.example
{more}
  trafficPolicy:
{policy}
"""


def test_tls_without_an_authority():
    for mode in ("SIMPLE", "MUTUAL"):
        policy = f"""
    tls:
      mode: {mode}  # IST0128
      clientCertificate: /c.pem
      privateKey: /k.pem
"""
        if mode == "SIMPLE":
            policy = "    tls:\n      mode: SIMPLE  # IST0128\n"
        (found,) = expect(rule(policy), *CODES)
        assert found.code.severity is Severity.WARNING


def test_tls_of_a_port_without_an_authority():
    policy = """
    portLevelSettings:
    - port: {number: 443}
      tls:
        mode: SIMPLE  # IST0129
    - port: {number: 8443}
      tls: {mode: SIMPLE, caCertificates: /ca.pem}
"""
    (found,) = expect(rule(policy), *CODES)
    assert "port 443" in found.message


def test_both_levels_are_told_apart():
    policy = """
    tls:
      mode: SIMPLE  # IST0128
    portLevelSettings:
    - port: {number: 443}
      tls:
        mode: SIMPLE  # IST0129
"""
    expect(rule(policy), *CODES)


def test_tls_that_is_checked_or_is_none():
    for tls in ("{mode: SIMPLE, caCertificates: /ca.pem}", "{mode: DISABLE}", "{mode: ISTIO_MUTUAL}"):
        expect(rule(f"    tls: {tls}"), *CODES)


def test_a_secret_may_hold_the_authority_of_chosen_workloads():
    tls = "    tls: {mode: SIMPLE, credentialName: bank}"
    expect(rule(tls, "  workloadSelector: {matchLabels: {app: cart}}"), *CODES)
    expect(rule(tls + "  # IST0128"), *CODES)

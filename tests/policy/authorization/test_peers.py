"""Principals, namespaces, service accounts, trust domains: what Istio's regular expressions for them match."""

from __future__ import annotations

import pytest

from meshlib.policy.authorization.blocks import UnknownValue
from meshlib.policy.authorization.peers import Namespaces, Principals, ServiceAccounts, TrustDomains

SLEEP = "spiffe://cluster.local/ns/default/sa/sleep"


@pytest.mark.parametrize(
    ("pattern", "principal", "found"),
    [
        ("cluster.local/ns/default/sa/sleep", SLEEP, True),
        ("*", SLEEP, True),
        ("*/sa/sleep", SLEEP, True),
        ("cluster.local/*", SLEEP, True),
        ("cluster.local/ns/default/sa/slee", SLEEP, False),
        ("*//cluster.local/ns/default/sa/sleep", SLEEP, False),
        (SLEEP, SLEEP, False),
        ("cluster.local/*", "spiffe://cluster.local.evil/ns/a/sa/b", False),
    ],
)
def test_principals_are_written_without_their_scheme(pattern: str, principal: str, found: bool) -> None:
    assert bool(Principals([(1, [pattern])])(principal)) == found


@pytest.mark.parametrize(
    ("pattern", "principal", "found"),
    [
        ("default", SLEEP, True),
        ("def*", SLEEP, True),
        ("*", SLEEP, True),
        ("de*t", SLEEP, True),
        ("defaul", SLEEP, False),
        ("d.fault", SLEEP, False),
        ("default", "spiffe://td/ns/default", False),
        ("b", "spiffe://td/x/ns/b/y", True),
        ("ns", "spiffe://td/ns/ns/x", True),
        ("default", "spiffe://default/sa/ns", False),
    ],
)
def test_namespaces(pattern: str, principal: str, found: bool) -> None:
    assert bool(Namespaces([(1, [pattern])])(principal)) == found


@pytest.mark.parametrize(
    ("account", "principal", "found"),
    [
        ("default/sleep", SLEEP, True),
        ("default/slee", SLEEP, False),
        ("default/sleep", f"{SLEEP}-evil", False),
        ("default/sleep", f"{SLEEP}/more", True),
        ("default/sleep", "spiffe://td/a/ns/default/b/sa/sleep", True),
        ("a.b/c", "spiffe://td/ns/aXb/sa/c", False),
        ("default/sleep", "spiffe://td/ns/default/xsa/sleep", False),
        ("default/sleep", "spiffe://ns/default/sa/sleep", False),
        ("sa/x", "spiffe://td/ns/sa/x", False),
    ],
)
def test_service_accounts(account: str, principal: str, found: bool) -> None:
    assert bool(ServiceAccounts([(1, [account])])(principal)) == found


@pytest.mark.parametrize(
    ("pattern", "principal", "found"),
    [
        ("cluster.local", SLEEP, True),
        ("*", SLEEP, True),
        ("*.local", SLEEP, True),
        ("cluster.*", SLEEP, True),
        ("cluster", SLEEP, False),
        ("cluster.local*cluster.local", SLEEP, False),
        ("td", "spiffe://td.evil/ns/a/sa/b", False),
        ("td", "spiffe://evil/td/ns/a/sa/b", False),
        ("td", "spiffe://td", False),
        ("*", "spiffe://td", True),
    ],
)
def test_trust_domains(pattern: str, principal: str, found: bool) -> None:
    assert bool(TrustDomains([(1, [pattern])])(principal)) == found


@pytest.mark.parametrize("index", [Namespaces, ServiceAccounts])
def test_an_id_with_more_of_them_than_anybody_means_is_unknown(index: type[Namespaces] | type[ServiceAccounts]) -> None:
    with pytest.raises(UnknownValue):
        index([(1, ["default/x"])])("spiffe://td" + "/ns/a/sa/b" * 100)

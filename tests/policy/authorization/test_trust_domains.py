"""Trust domain aliases, as Istio's bundle replaces them."""

from __future__ import annotations

import pytest

from meshlib.policy.authorization.trust_domains import domains_with_aliases, principals_with_aliases


@pytest.mark.parametrize(
    ("principal", "domains", "found"),
    [
        ("td1/ns/a/sa/b", ["td2", "td1"], ["td2/ns/a/sa/b", "td1/ns/a/sa/b"]),
        ("cluster.local/ns/a/sa/b", ["td1", "td2"], ["td1/ns/a/sa/b", "td2/ns/a/sa/b"]),
        ("other/ns/a/sa/b", ["td1", "td2"], ["other/ns/a/sa/b"]),
        ("*/ns/a/sa/b", ["td1", "td2"], ["*/ns/a/sa/b"]),
        ("*-td/ns/a/sa/b", ["new-td", "old-td", "x"], ["*-td/ns/a/sa/b", "x/ns/a/sa/b"]),
        ("td1/*", ["td1", "td2"], ["td1/*"]),
        ("*", ["td1", "td2"], ["*"]),
        ("td1.evil/ns/a/sa/b", ["td1"], ["td1.evil/ns/a/sa/b"]),
    ],
)
def test_principals(principal: str, domains: list[str], found: list[str]) -> None:
    assert principals_with_aliases([principal], domains) == tuple(found)


def test_trust_domains() -> None:
    assert domains_with_aliases(["td1", "x"], ["td2", "td1"]) == ("td2", "td1", "x")
    assert domains_with_aliases(["cluster.local", "*"], ["td1"]) == ("cluster.local", "*")

"""Hosts: as Envoy compares them for certain, and what an application takes for the host as well."""

from __future__ import annotations

import pytest

from meshlib.policy.authorization.hosts import Authorities, Hosts

ENTRIES = [(1, ["app.test"]), (2, ["*.test"]), (4, ["app.test:8080"]), (8, ["app.*"]), (16, ["[::1]"]), (32, ["*"])]


@pytest.mark.parametrize(
    ("authority", "certain", "maybe"),
    [
        ("app.test", 43, 43),
        ("APP.Test", 43, 43),
        ("app.test:80", 40, 43),
        ("app.test.", 40, 43),
        ("app.test.:8080", 40, 47),
        ("x.test:", 32, 34),
        ("[::1]:80", 32, 48),
        ("other", 32, 32),
    ],
)
def test_case_port_and_final_dot(authority: str, certain: int, maybe: int) -> None:
    assert Hosts(ENTRIES, certain=-1)(authority) == certain
    assert Hosts(ENTRIES)(authority) == maybe


def test_patterns_are_of_any_case_too() -> None:
    assert Hosts([(1, ["App.TEST"])], certain=-1)("app.test") == 1


def test_of_the_header_the_case_counts_for_who_permits() -> None:
    """As a real Envoy compares it: tests/differential/test_authorization_decisions.py."""
    entries = [(1, ["App.test"]), (2, ["app.test"])]
    assert Authorities(entries, certain=-1)("app.test") == 2
    assert Authorities(entries)("app.test:80") == 3

"""Patches of EnvoyFilters."""

from __future__ import annotations

import pytest

from tests.support.analysis import expect

CODES = ("IST0151", "IST0152", "IST0153", "IST0154", "IST0155")


def patch(apply_to: str, operation: str, mark: str = "", match: str = "") -> str:
    return f"""
  - applyTo: {apply_to}
    {match}
    patch:
      operation: {operation}  # {mark}
      value: {{name: envoy.filters.http.lua}}
"""


def envoy_filter(*patches: str, more: str = "", name: str = "lua") -> str:
    return f"""
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: {name}}}
spec:
  {more}
  configPatches:
{"".join(patches)}
---
"""


@pytest.mark.parametrize(
    ("apply_to", "operation", "code"),
    [
        ("HTTP_ROUTE", "ADD", "IST0153"),
        ("ROUTE_CONFIGURATION", "ADD", "IST0153"),
        ("VIRTUAL_HOST", "ADD", ""),
        ("CLUSTER", "ADD", ""),
        ("HTTP_ROUTE", "REMOVE", "IST0154"),
        ("ROUTE_CONFIGURATION", "REMOVE", "IST0154"),
        ("VIRTUAL_HOST", "REMOVE", "IST0151"),
        ("LISTENER", "REPLACE", "IST0152"),
        ("CLUSTER", "REPLACE", "IST0152"),
        ("HTTP_FILTER", "REPLACE", "IST0151"),
        ("NETWORK_FILTER", "REPLACE", "IST0151"),
        ("VIRTUAL_HOST", "REPLACE", "IST0151"),
        ("HTTP_FILTER", "INSERT_BEFORE", "IST0151"),
        ("HTTP_FILTER", "INSERT_AFTER", "IST0151"),
        ("HTTP_FILTER", "INSERT_FIRST", ""),
        ("CLUSTER", "MERGE", ""),
    ],
)
def test_operations(apply_to: str, operation: str, code: str):
    expect(envoy_filter(patch(apply_to, operation, code)), *CODES)


def test_with_a_priority_relative_operations_are_well_defined():
    expect(envoy_filter(patch("HTTP_FILTER", "INSERT_BEFORE"), more="priority: 10"), *CODES)


def test_a_relative_operation_after_one_for_a_proxy_version():
    version = 'match: {proxy: {proxyVersion: "^1.2.*"}}'
    first = patch("HTTP_FILTER", "INSERT_FIRST", match=version)
    expect(envoy_filter(first, patch("HTTP_FILTER", "INSERT_BEFORE", "IST0155")), *CODES)


def test_nothing_is_said_after_an_entry_without_patch():
    nothing = "  - applyTo: CLUSTER\n"
    expect(envoy_filter(nothing, patch("HTTP_ROUTE", "ADD")), *CODES)

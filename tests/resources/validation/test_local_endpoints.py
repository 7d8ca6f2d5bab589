"""What is refused in a LocalEndpoints whose types are right."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.resources.loader import load_objects, load_text
from meshlib.resources.validation.local_endpoints import full_name

HEAD = """\
apiVersion: meshlib.dev/v1
kind: LocalEndpoints
metadata: {name: local, namespace: prod}
spec:
  hosts:
"""


def of(*hosts: dict[str, Any]) -> dict[str, Any]:
    head = {"apiVersion": "meshlib.dev/v1", "kind": "LocalEndpoints", "metadata": {"name": "local"}}
    return {**head, "spec": {"hosts": list(hosts)}}


@pytest.mark.parametrize(
    ("host", "full"),
    [
        ("reviews", "reviews.prod.svc.cluster.local"),
        ("Reviews.", "reviews.prod.svc.cluster.local"),
        ("reviews.other.svc.cluster.local", "reviews.other.svc.cluster.local"),
        ("API.example.com.", "api.example.com"),
    ],
)
def test_a_host_has_one_full_name_in_a_namespace(host, full):
    assert full_name(host, "prod") == full


def test_a_host_is_there_once_whatever_its_spelling():
    text = (
        f"{HEAD}  - {{host: reviews, addresses: [a]}}\n  - {{host: Reviews.prod.svc.cluster.local, addresses: [b]}}\n"
    )
    (problem,) = load_text(text).errors
    assert problem.message == "Reviews.prod.svc.cluster.local is there already (as reviews)"
    assert problem.line == 7


def test_a_host_may_have_subsets_ports_and_addresses_of_none():
    entries = [
        {"host": "reviews", "addresses": ["a:1"]},
        {"host": "reviews", "subset": "v1", "addresses": ["a:1"]},
        {"host": "reviews", "subset": "v1", "port": 80, "addresses": ["a:1"]},
    ]
    assert not load_objects([of(*entries)]).problems


def test_nothing_at_all_is_refused():
    (problem,) = load_objects([of()]).errors
    assert problem.message == "there is no host"
    assert load_objects([{**of(), "spec": {}}]).errors[0].message == "the field hosts is missing"

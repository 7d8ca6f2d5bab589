"""What is in force at a server, as ``mesh.status()`` tells it."""

from __future__ import annotations

from typing import Any

import meshlib
from meshlib.compiler.inbound import NO_INBOUND
from meshlib.engine.authorization_check import AuthorizationCounts
from meshlib.engine.inbound_status import inbound_status
from meshlib.engine.peer_check import PeerCounts
from tests.support.peer_authentication import peer_authentication
from tests.support.wsgi import environ

WORKLOAD = meshlib.Workload(name="httpbin", namespace="foo", labels={"app": "httpbin"})


def policy(name: str, dry_run: bool = False, **spec: Any) -> dict[str, Any]:
    annotations = {"istio.io/dry-run": "true"} if dry_run else {}
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": "foo", "annotations": annotations},
        "spec": spec,
    }


def test_the_policies_of_the_workload_and_what_they_have_decided():
    posts: dict[str, Any] = {"rules": [{"to": [{"operation": {"methods": ["POST"]}}]}]}
    gets: dict[str, Any] = {"rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]}
    policies = [
        policy("no-posts", action="DENY", **posts),
        policy("trial", dry_run=True, action="DENY", **gets),
        policy("gets", **gets),
        policy("other", selector={"matchLabels": {"app": "other"}}),
    ]
    with meshlib.Mesh.from_resources(policies, workload=WORKLOAD) as mesh:
        application = meshlib.MeshWSGIMiddleware(lambda e, start: (start("200 OK", []), [b""])[1], mesh)
        for method in ("GET", "POST", "PUT", "PUT"):
            list(application(environ(REQUEST_METHOD=method), lambda *_: lambda _: None))
        found = mesh.status()["inbound"]
    keys = ("action", "dry_run", "rules", "denied", "would_have_denied")
    told = {policy["policy"]: tuple(policy[key] for key in keys) for policy in found["policies"]}
    assert told == {
        "foo/no-posts": ("DENY", False, 1, 1, 0),
        "foo/trial": ("DENY", True, 1, 0, 1),
        "foo/gets": ("ALLOW", False, 1, 0, 0),
    }
    assert found["denied_by_none"] == 2


def test_a_workload_without_policies_says_so():
    assert inbound_status(NO_INBOUND, AuthorizationCounts(), PeerCounts()) == {
        "policies": [],
        "denied_by_none": 0,
        "custom": [],
        "tokens": [],
        "broken_tokens": {},
        "protection": "",
        "rate_limits": 0,
        "faults": [],
        "path_normalization": "BASE",
        "trust_domains": ["cluster.local"],
        "mtls": {"mode": "PERMISSIVE", "policy": "", "broken": ""},
        "mtls_ports": {},
        "mtls_refused": {},
    }


def test_modes_of_ports_and_the_callers_that_strict_has_refused():
    cart = peer_authentication("cart", "DISABLE", namespace="foo", app="httpbin")
    cart["spec"]["portLevelMtls"] = {"8000": {"mode": "STRICT"}, "9000": {"mode": "DISABLE"}}
    with meshlib.Mesh.from_resources([cart], workload=WORKLOAD) as mesh:
        application = meshlib.MeshWSGIMiddleware(lambda e, start: (start("200 OK", []), [b""])[1], mesh, port=8000)
        list(application(environ(), lambda *_: lambda _: None))
        found = mesh.status()["inbound"]
    assert found["mtls"] == {"mode": "DISABLE", "policy": "foo/cart", "broken": ""}
    strict = {"mode": "STRICT", "policy": "foo/cart", "broken": ""}
    assert found["mtls_ports"] == {"8000": strict, "unknown": strict}
    assert found["mtls_refused"] == {"foo/cart": 1}


def test_a_closed_mesh_has_nothing_in_force():
    mesh = meshlib.Mesh.from_resources([])
    mesh.close()
    assert "inbound" not in mesh.status()

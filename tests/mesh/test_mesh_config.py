"""MeshConfig in a mesh at work: what changes of it acts from the next call on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import meshlib
from meshlib.problems import ConfigError
from tests.support.mesh_config import config_map, http_authorizer, mesh_config

CLOSED = {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}


def status(mesh: meshlib.Mesh) -> int:
    with mesh.client() as client:
        return client.get("http://127.0.0.1:9/").status_code


def passes(mesh: meshlib.Mesh) -> bool:
    """Whether hosts that nobody knows are let through, as ``explain`` says."""
    return "ALLOW_ANY" in str(mesh.explain(url="http://nowhere.example/"))


def test_apply_changes_it():
    with meshlib.Mesh.from_resources([]) as mesh:
        assert passes(mesh)
        mesh.apply([config_map(**CLOSED)])
        assert not passes(mesh)
        assert status(mesh) == 502
        mesh.apply([mesh_config(outboundTrafficPolicy={"mode": "ALLOW_ANY"}), config_map(**CLOSED)])
        assert passes(mesh)


def test_one_that_is_wrong_leaves_the_last_one_in_force():
    with meshlib.Mesh.from_resources([config_map(**CLOSED)]) as mesh:
        with pytest.raises(ConfigError, match="not a trust domain"):
            mesh.apply([config_map(trustDomain="a_b")])
        assert not passes(mesh)
    with pytest.raises(ConfigError, match="not a trust domain"):
        meshlib.Mesh.from_resources([config_map(trustDomain="a_b")])


def test_files_that_are_followed(tmp_path: Path):
    file = tmp_path / "istio.yaml"
    file.write_text(yaml.safe_dump(config_map(**CLOSED)))
    (tmp_path / "other.yaml").write_text("# meshlib: empty\n")
    with meshlib.Mesh.from_path(tmp_path, watch=False) as mesh:
        assert not passes(mesh)
        file.write_text(yaml.safe_dump(config_map(outboundTrafficPolicy={"mode": "ALLOW_ANY"})))
        mesh.reload()
        assert passes(mesh)
        file.write_text(yaml.safe_dump(config_map(outboundTrafficPolicy={"mode": "SOME"})))
        mesh.reload()
        assert passes(mesh), "the last good version"
        file.write_text(yaml.safe_dump({**config_map(), "data": {"mesh": "outboundTrafficPolicy: ["}}))
        mesh.reload()
        assert passes(mesh)
        assert any(p["path"].startswith("data.mesh") for p in mesh.status()["problems"])


def test_status_tells_what_counts():
    providers = [http_authorizer(), http_authorizer("bad", port=0)]
    mine = mesh_config(rootNamespace="mesh", trustDomainAliases=["old.example"], extensionProviders=providers, **CLOSED)
    with meshlib.Mesh.from_resources([mine, config_map(trustDomain="td.example")]) as mesh:
        assert json.loads(json.dumps(mesh.status()["mesh_config"])) == {
            "resource": "MeshConfig/istio-system/mesh",
            "rootNamespace": "mesh",
            "trustDomain": "cluster.local",
            "trustDomainAliases": ["old.example"],
            "pathNormalization": "BASE",
            "outboundTrafficPolicy": "REGISTRY_ONLY",
            "enableAutoMtls": True,
            "meshMTLS": {"minProtocolVersion": "TLSV1_2"},
            "protocolDetectionTimeout": "0s",
            "extensionProviders": {"authz": "", "bad": "port 0 is outside 1..65535"},
            "metadataExchangeHeaders": "UNDEFINED",
        }


# -- what servers do with it


def policy(namespace: str = "default", action: str = "ALLOW", **rule: Any) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "namespace": namespace},
        "spec": {"action": action, "rules": [rule] if rule else []},
    }


def allowed(*resources: Any, workload: meshlib.Workload | None = None, **request: Any) -> bool:
    with meshlib.Mesh.from_resources(resources, workload=workload) as mesh:
        return bool(mesh.explain_inbound(**request).to_dict()["allowed"])


def test_policies_of_the_root_namespace_are_for_every_server():
    nobody = policy("mesh")
    assert allowed(nobody)
    assert not allowed(nobody, config_map(rootNamespace="mesh"))
    assert allowed(policy("istio-system"), config_map(rootNamespace="mesh"))


def source(**fields: Any) -> dict[str, Any]:
    return {"from": [{"source": fields}]}


def test_principals_of_an_alias_are_those_of_the_trust_domain():
    cart = policy(**source(principals=["cluster.local/ns/shop/sa/cart"]))
    old = "spiffe://old.example/ns/shop/sa/cart"
    assert not allowed(cart, principal=old)
    assert allowed(cart, config_map(trustDomainAliases=["old.example"]), principal=old)
    assert not allowed(cart, config_map(trustDomainAliases=["older.example"]), principal=old)


def test_cluster_local_in_a_policy_stands_for_the_meshs_trust_domain():
    cart = policy(**source(principals=["cluster.local/ns/shop/sa/cart"]))
    renamed = config_map(trustDomain="td.example")
    assert allowed(cart, renamed, principal="spiffe://td.example/ns/shop/sa/cart")
    assert not allowed(cart, principal="spiffe://td.example/ns/shop/sa/cart")
    mine = meshlib.Workload(trust_domain="mine.example")
    assert allowed(cart, renamed, workload=mine, principal="spiffe://mine.example/ns/shop/sa/cart")
    assert not allowed(cart, renamed, workload=mine, principal="spiffe://td.example/ns/shop/sa/cart")


def test_path_normalization_is_what_policies_see():
    admin = policy(to=[{"operation": {"paths": ["/admin"]}}])
    merged = config_map(pathNormalization={"normalization": "MERGE_SLASHES"})
    assert not allowed(admin, path="//admin")
    assert not allowed(admin, merged, path="//admin"), "an application that does not merge slashes sees another path"
    deny = policy(action="DENY", to=[{"operation": {"paths": ["/admin"]}}])
    for mesh in ([], [merged], [config_map(pathNormalization={"normalization": "NONE"})]):
        for path in ("/admin", "//admin", "/%61dmin", "/x/../admin"):
            assert not allowed(deny, *mesh, path=path), (mesh, path)


def test_a_custom_policy_names_a_provider_of_the_mesh():
    asked = policy(action="CUSTOM", to=[{"operation": {"paths": ["/a"]}}])
    asked["spec"]["provider"] = {"name": "authz"}
    provider = http_authorizer(service="127.0.0.1", port=1)
    for mesh in ([], [config_map(extensionProviders=[{**provider, "name": "other"}])]):
        assert not allowed(asked, *mesh, path="/a"), "nobody can be asked"
        assert allowed(asked, *mesh, path="/b")

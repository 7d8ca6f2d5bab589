"""Kinds of others: one notice for each kind, which says what to write instead."""

from __future__ import annotations

import pytest

from meshlib import Mesh
from meshlib.problems import Severity
from meshlib.resources.kinds import KINDS
from meshlib.resources.loader import load, load_objects, load_text
from meshlib.resources.other_kinds import INSTEAD, instead_of

ROUTE = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: %s}\n"
GRPC_ROUTE = "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: %s}\n"
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80, name: http}]}\n"


def other(kind: str, version: str, name: str = "a") -> dict[str, object]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}}


def test_one_notice_for_a_kind_however_many_files_have_it(tmp_path):
    (tmp_path / "a.yaml").write_text(ROUTE % "one" + "---\n" + ROUTE % "two")
    (tmp_path / "b.yaml").write_text(SERVICE + "---\n" + ROUTE % "three" + "---\n" + GRPC_ROUTE % "four")
    found = [p for p in load(tmp_path).problems if p.code == "unknown-kind"]
    assert [(p.file, p.line, p.severity) for p in found] == [
        (str(tmp_path / "a.yaml"), 2, Severity.NOTICE),
        (str(tmp_path / "b.yaml"), 11, Severity.NOTICE),
    ]
    http, grpc = found
    assert http.message == (
        "HTTPRoute (gateway.networking.k8s.io/v1) has no meaning to meshlib: it is skipped (and so are 2 more)"
    )
    assert http.hint == "write its rules as spec.http of a VirtualService (networking.istio.io/v1)"
    assert grpc.message.startswith("GRPCRoute ")
    assert "(and so" not in grpc.message
    assert "VirtualService" in grpc.hint
    assert "/package.Service/Method" in grpc.hint


def test_the_versions_of_a_kind_are_one_kind_and_those_of_other_groups_are_not():
    found = load_objects([
        other("HTTPRoute", "gateway.networking.k8s.io/v1"),
        other("HTTPRoute", "gateway.networking.k8s.io/v1beta1", "b"),
        other("HTTPRoute", "policy.linkerd.io/v1beta3", "c"),
    ]).problems  # fmt: skip
    assert [p.message.partition(":")[2] for p in found] == [" it is skipped (and so is 1 more)", " it is skipped"]


@pytest.mark.parametrize(
    ("kind", "version", "said"),
    [
        ("Ingress", "extensions/v1beta1", "a Gateway and a VirtualService"),
        ("NetworkPolicy", "networking.k8s.io/v1", "AuthorizationPolicy"),
        ("Gateway", "gateway.networking.k8s.io/v1", "Istio's Gateway (networking.istio.io/v1)"),
        ("SomethingNew", "gateway.networking.k8s.io/v1", "Istio's kinds"),
        ("StatefulSet", "apps/v1", "Pods or EndpointSlices"),
        ("CustomResourceDefinition", "apiextensions.k8s.io/v1", "leave it out"),
        ("ConfigMap", "v1", "data.mesh"),
        ("IstioOperator", "install.istio.io/v1alpha1", "MeshConfig (meshlib.dev/v1)"),
        ("Role", "rbac.authorization.k8s.io/v1", "the cluster's own business"),
        ("Widget", "shop.example/v1", "docs/semantics.md"),
    ],
)
def test_the_hint_says_what_to_do(kind: str, version: str, said: str):
    (found,) = load_objects([other(kind, version)]).problems
    assert (found.code, found.severity) == ("unknown-kind", Severity.NOTICE)
    assert kind in found.message
    assert version in found.message
    assert said in found.hint == instead_of(kind, version)


def test_what_is_listed_is_no_kind_that_is_read():
    read = {(known.group, kind) for kind, known in KINDS.items()} - {("", "ConfigMap")}  # one of them is read
    assert read.isdisjoint(INSTEAD)


def test_no_kind_is_skipped_silently():
    mesh = Mesh.from_resources([other("Widget", "shop.example/v1"), other("NetworkPolicy", "networking.k8s.io/v1")])
    with mesh:
        assert [p["code"] for p in mesh.status()["problems"]] == ["unknown-kind"] * 2


def test_deployments_without_a_service_are_told_once():
    text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: %s}\n"
    (found,) = load_text(text % "a" + "---\n" + text % "b").problems
    assert found.message == (
        "Deployment (apps/v1) has no effect without a Service that selects its Pods (and so has 1 more)"
    )
    assert "Pods or EndpointSlices" in found.hint
    assert not load_text(text % "a" + "---\n" + SERVICE).problems, "its Service says that it has no endpoints"


def test_the_notice_stays_as_it_is_when_files_are_read_again(tmp_path):
    (tmp_path / "a.yaml").write_text(SERVICE + "---\n" + ROUTE % "one" + "---\n" + ROUTE % "two")
    with Mesh.from_path(tmp_path, watch=False) as mesh:
        before = [p for p in mesh.problems if p.code == "unknown-kind"]
        mesh.reload()
        assert [p for p in mesh.problems if p.code == "unknown-kind"] == before
        assert len(before) == 1

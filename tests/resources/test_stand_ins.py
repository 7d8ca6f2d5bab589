"""What stands for policies that cannot be read: for the workloads that they select, or for all when that cannot be told."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.resources.authorization_policy import AuthorizationPolicy
from meshlib.resources.base import Origin
from meshlib.resources.loader import load
from meshlib.resources.peer_authentication import PeerAuthentication
from meshlib.resources.request_authentication import RequestAuthentication
from meshlib.resources.stand_ins import TORN, stand_in_for, stand_ins_for_text

ORIGIN = Origin(file="mesh.yaml", line=3)


def made(spec: object, **metadata: object) -> AuthorizationPolicy | None:
    value = {"metadata": {"name": "p", "namespace": "shop", **metadata}, "spec": spec}
    found = stand_in_for("AuthorizationPolicy", value, "bad", ORIGIN)
    assert found is None or isinstance(found, AuthorizationPolicy)
    return found


def test_it_refuses_everything_where_the_policy_is_for() -> None:
    found = made({"selector": {"matchLabels": {"app": "cart"}}, "rules": "nonsense"})
    assert found is not None
    assert (found.id, found.spec.action, found.stands_for, found.placed) == (
        "AuthorizationPolicy/shop/p",
        "DENY",
        "bad",
        True,
    )
    assert found.spec.selector is not None
    assert found.spec.selector.match_labels == {"app": "cart"}
    assert (found.origin.file, found.origin.line) == ("mesh.yaml", 3)


@pytest.mark.parametrize(
    "selector",
    [{"matchlabels": {"app": "cart"}}, {"matchLabels": {"app": 5}}, {"matchLabels": ["app"]}, "app", {}, None],
)
def test_a_selector_that_cannot_be_told_is_everybody(selector: Any) -> None:
    found = made({"selector": selector})
    assert found is not None
    assert found.spec.selector is None


@pytest.mark.parametrize(
    ("spec", "metadata"),
    [
        ({"action": "AUDIT"}, {}),
        ({}, {"annotations": {"istio.io/dry-run": "true"}}),
        ({"targetRefs": [{"kind": "Gateway", "name": "g"}]}, {}),
    ],
)
def test_nothing_stands_for_a_policy_that_surely_refuses_nobody(spec: Any, metadata: dict[str, Any]) -> None:
    assert made(spec, **metadata) is None


@pytest.mark.parametrize("action", ["ALLOW", "DENY", "CUSTOM", "Audit", None, 5])
def test_any_other_action_may_have_refused(action: Any) -> None:
    assert made({"action": action}) is not None


@pytest.mark.parametrize("namespace", [5, None, ""])
def test_a_namespace_that_cannot_be_told_is_all_of_them(namespace: Any) -> None:
    found = made({}, namespace=namespace)
    assert found is not None
    assert not found.placed


def test_a_document_whose_parts_are_no_objects() -> None:
    found = stand_in_for("AuthorizationPolicy", {"metadata": "p", "spec": ["x"]}, "bad", ORIGIN)
    assert found is not None
    assert found.name == "unnamed"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: closed\nspec: [", "closed"),
        ('{"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "j"', "j"),
        ("apiVersion: security.istio.io/v1beta1\nkind: 'AuthorizationPolicy'\n\t", "unnamed"),
        (
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n"
            "  labels: {app.kubernetes.io/name: shop, my-name: x, firstname: y}\n  name: closed\nspec: [",
            "closed",
        ),
    ],
)
def test_a_text_that_is_no_yaml_is_everywhere(text: str, name: str) -> None:
    [found] = stand_ins_for_text(text, ORIGIN)
    assert (found.name, found.placed, found.stands_for) == (name, False, TORN)


@pytest.mark.parametrize(
    "text",
    [
        "kind: VirtualService\napiVersion: networking.istio.io/v1\n[",
        "kind: AuthorizationPolicy\napiVersion: policy.linkerd.io/v1alpha1\n[",
        "# AuthorizationPolicy of security.istio.io\n[",
    ],
)
def test_nothing_stands_for_texts_about_something_else(text: str) -> None:
    assert stand_ins_for_text(text, ORIGIN) == []


def tokens(spec: object, **metadata: object) -> RequestAuthentication | None:
    value = {"metadata": {"name": "t", "namespace": "shop", **metadata}, "spec": spec}
    found = stand_in_for("RequestAuthentication", value, "bad", ORIGIN)
    assert found is None or isinstance(found, RequestAuthentication)
    return found


def test_for_tokens_it_has_the_places_where_they_were_looked_for() -> None:
    found = tokens({"jwtRules": [{"fromParams": ["t"], "issuer": 5}], "selector": {"matchLabels": {"app": "cart"}}})
    assert found is not None
    assert (found.id, found.stands_for, found.placed, found.looks_anywhere) == (
        "RequestAuthentication/shop/t",
        "bad",
        True,
        False,
    )
    assert [rule.from_params for rule in found.spec.jwt_rules or ()] == [["t"]]
    assert found.spec.selector is not None
    assert "every token" in found.refuses


def test_for_tokens_of_rules_that_cannot_be_read_it_looks_anywhere() -> None:
    found = tokens({"jwtRules": 5, "selector": {"matchLabels": {"app": 5}}}, namespace=5)
    assert found is not None
    assert (found.placed, found.looks_anywhere, found.spec.selector) == (False, True, None)
    assert "everything" in found.refuses


@pytest.mark.parametrize("spec", [{"jwtRules": []}, {"jwtRules": 5, "targetRefs": [{"kind": "Gateway", "name": "g"}]}])
def test_nothing_stands_for_tokens_that_surely_nobody_looked_for(spec: Any) -> None:
    assert tokens(spec) is None


@pytest.mark.parametrize("kind", ["AuthorizationPolicy", "RequestAuthentication"])
def test_where_a_key_is_there_twice_nothing_but_the_name_is_sure(tmp_path: Any, kind: str) -> None:
    file = tmp_path / "mesh.yaml"
    spec = "spec: {selector: {matchLabels: {app: a}}, selector: {matchLabels: {app: b}}, targetRefs: [], jwtRules: []}"
    file.write_text(f"apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: p, namespace: shop}}\n{spec}\n")
    [found] = load([file]).files[str(file)].stand_ins
    assert (found.kind, found.name, found.placed) == (kind, "p", False)
    assert "everything" in found.refuses


@pytest.mark.parametrize("kind", ["AuthorizationPolicy", "RequestAuthentication"])
def test_one_without_a_name_is_not_just_left_out(tmp_path: Any, kind: str) -> None:
    file = tmp_path / "mesh.yaml"
    rules = "{action: DENY, rules: [{}]}" if kind == "AuthorizationPolicy" else "{jwtRules: [{issuer: a}]}"
    file.write_text(f"apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{namespace: shop}}\nspec: {rules}\n")
    [found] = load([file]).files[str(file)].stand_ins
    assert (found.kind, found.name, found.stands_for) == (kind, "unnamed", "metadata.name is missing")


def test_a_text_that_is_no_yaml_may_be_about_both_kinds() -> None:
    text = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\n"
    [found] = stand_ins_for_text(f"{text}metadata: {{name: t\n[", ORIGIN)
    assert isinstance(found, RequestAuthentication)
    assert (found.name, found.placed, found.looks_anywhere, found.stands_for) == ("t", False, True, TORN)
    both = stand_ins_for_text(f"items: [{{{text}}}, {{kind: AuthorizationPolicy", ORIGIN)
    assert [one.kind for one in both] == ["AuthorizationPolicy", "RequestAuthentication"]


def test_loading_finds_them_beside_what_is_good(tmp_path: Any) -> None:
    file = tmp_path / "mesh.yaml"
    head = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {namespace: shop, name: "
    file.write_text(
        f"{head}good}}\nspec: {{rules: [{{}}]}}\n---\n{head}typo}}\nspec: {{ruls: []}}\n---\n"
        f"{head.replace('v1', 'v9')}version}}\n---\n{head}torn}}\nspec: [\n"
    )
    result = load([file])
    found = result.files[str(file)].stand_ins
    assert sorted(stand_in.name for stand_in in found) == ["torn", "typo", "version"]
    assert [resource.id for resource in result.resources] == ["AuthorizationPolicy/shop/good"]
    assert next(s for s in found if s.name == "typo").origin.line == 6


# -- PeerAuthentications ----------------------------------------------------------------------------------------------


def strict(spec: object, **metadata: object) -> PeerAuthentication | None:
    value = {"metadata": {"name": "p", "namespace": "shop", **metadata}, "spec": spec}
    found = stand_in_for("PeerAuthentication", value, "bad", ORIGIN)
    assert found is None or isinstance(found, PeerAuthentication)
    return found


@pytest.mark.parametrize(
    "spec",
    [
        {"mtls": {"mode": "STRIKT"}},
        {"mTLS": {"mode": "STRICT"}},
        {"mtls": {"mode": "DISABLE"}, "portLevelMtls": {"8080": {"mode": "STRICT"}}},
        {"mtls": {"mode": "DISABLE"}, "portLevelMtls": ["8080"]},
        {"mtls": {"mode": "DISABLE"}, "portLevelmtls": {"8080": {"mode": "STRICT"}}},
        {"mtls": {"mode": "UNSET"}},
        {"mtls": 5},
        "STRICT",
        {},
    ],
)
def test_modes_that_may_have_been_strict_are_strict_at_every_port(spec: Any) -> None:
    found = strict(spec)
    assert found is not None
    assert found.spec.mtls is not None
    assert (found.spec.mtls.mode, found.spec.port_level_mtls, found.stands_for) == ("STRICT", None, "bad")


@pytest.mark.parametrize("mode", ["PERMISSIVE", "DISABLE"])
def test_nothing_stands_for_modes_that_surely_let_plain_text_in(mode: str) -> None:
    ports = {"8080": {"mode": "PERMISSIVE"}, "9090": {"mode": "DISABLE"}}
    assert strict({"mtls": {"mode": mode}, "selector": 5}) is None
    assert strict({"mtls": {"mode": mode}, "selector": 5, "portLevelMtls": ports}) is None


def test_the_selector_of_modes_that_cannot_be_read_counts_where_it_can() -> None:
    found = strict({"selector": {"matchLabels": {"app": "cart"}}, "mtls": 5})
    assert found is not None
    assert found.spec.selector is not None
    assert found.spec.selector.match_labels == {"app": "cart"}
    everybody = strict({"selector": {"matchLabels": 5}, "mtls": 5})
    assert everybody is not None
    assert everybody.spec.selector is None


def test_a_text_of_modes_that_is_no_yaml_is_everywhere() -> None:
    text = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default\nspec: ["
    [found] = stand_ins_for_text(text, ORIGIN)
    assert isinstance(found, PeerAuthentication)
    assert (found.name, found.placed, found.stands_for) == ("default", False, TORN)

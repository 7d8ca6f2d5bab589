"""What stands for policies that cannot be read: for the workloads that they select, or for all when that cannot be told."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.resources.authorization_policy import AuthorizationPolicy
from meshlib.resources.base import Origin
from meshlib.resources.loader import load
from meshlib.resources.stand_ins import TORN, stand_in_for, stand_in_for_text

ORIGIN = Origin(file="mesh.yaml", line=3)


def made(spec: object, **metadata: object) -> AuthorizationPolicy | None:
    return stand_in_for({"metadata": {"name": "p", "namespace": "shop", **metadata}, "spec": spec}, "bad", ORIGIN)


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
    found = stand_in_for({"metadata": "p", "spec": ["x"]}, "bad", ORIGIN)
    assert found is not None
    assert found.name == "unnamed"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: closed\nspec: [", "closed"),
        ('{"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "j"', "j"),
        ("apiVersion: security.istio.io/v1beta1\nkind: 'AuthorizationPolicy'\n\t", "unnamed"),
    ],
)
def test_a_text_that_is_no_yaml_is_everywhere(text: str, name: str) -> None:
    found = stand_in_for_text(text, ORIGIN)
    assert found is not None
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
    assert stand_in_for_text(text, ORIGIN) is None


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

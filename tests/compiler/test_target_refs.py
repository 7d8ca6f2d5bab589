"""Which workloads ``targetRefs`` are for."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from meshlib.compiler.target_refs import GATEWAY_NAME, GROUP, targets, why_not_attached
from meshlib.workload import Workload

PUBLIC = Workload("ingress", namespace="edge", labels={GATEWAY_NAME: "public"})


class Ref(NamedTuple):
    kind: str | None = "Gateway"
    name: str | None = "public"
    group: str | None = GROUP
    namespace: str | None = None


@pytest.mark.parametrize(
    ("ref", "namespace", "attached"),
    [
        (Ref(), "edge", True),
        (Ref(namespace="edge"), "edge", True),
        (Ref(), "other", False),
        (Ref(namespace="other"), "edge", False),
        (Ref(name="private"), "edge", False),
        (Ref(kind="Service"), "edge", False),
        (Ref(group="networking.istio.io"), "edge", False),
    ],
)
def test_a_gateway_of_the_gateway_api_in_its_own_namespace(ref, namespace, attached):
    assert (why_not_attached([ref], namespace, PUBLIC) == "") is attached


def test_of_several_one_is_enough():
    assert why_not_attached([Ref(name="private"), Ref()], "edge", PUBLIC) == ""


def test_a_workload_that_is_no_gateway_hears_why():
    assert "this workload has no label" in why_not_attached([Ref()], "edge", Workload("w", namespace="edge"))


class Spec(NamedTuple):
    target_ref: Ref | None = None
    target_refs: list[Ref] | None = None


def test_the_one_entry_of_old_counts_where_there_is_no_list():
    assert targets(Spec(Ref()), "edge", PUBLIC)
    assert not targets(Spec(Ref(), [Ref(name="private")]), "edge", PUBLIC)
    assert not targets(Spec(), "edge", PUBLIC)

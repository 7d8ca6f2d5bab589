"""Policies that a gateway would obey if it had its labels."""

from __future__ import annotations

import pytest

from meshlib.compiler.compile import Compiler
from meshlib.compiler.gateway_model import GatewayChoice
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.gateway_proxy import INGRESS, gateway, server
from tests.support.inbound_policies import authorization_policy
from tests.support.resources import virtual_service

BY_NAME = GatewayChoice(("default/gw",))
NAKED = Workload("gateway", namespace="default")
ROUTES = virtual_service("shop", {"directResponse": {"status": 200}}, hosts=["shop.test"], gateways=["gw"])


def said(workload, namespace="default", **labels):
    policy = authorization_policy("only", "ALLOW", {}, selector={"matchLabels": labels})
    policy["metadata"]["namespace"] = namespace
    result = load_objects([gateway(server("*")), ROUTES, policy])
    assert not result.errors, result.errors
    made = Compiler(workload, gateways=BY_NAME).compile(result.resources)
    return [problem for problem in made.problems if problem.code == "policy-without-effect"]


@pytest.mark.parametrize("namespace", ["default", "istio-system"])
def test_a_policy_of_the_gateways_labels_that_does_not_act_is_said_with_the_remedy(namespace):
    (problem,) = said(NAKED, namespace, istio="ingress")
    assert problem.path == f"AuthorizationPolicy/{namespace}/only spec.selector"
    assert "it selects the workloads of Gateway/default/gw" in problem.message
    assert problem.hint == "--labels istio=ingress, if it is to"


def test_one_that_acts_is_not():
    assert said(INGRESS, istio="ingress") == []


@pytest.mark.parametrize(("namespace", "labels"), [("other", {"istio": "ingress"}), ("default", {"app": "reviews"})])
def test_nor_is_one_for_others(namespace, labels):
    assert said(NAKED, namespace, **labels) == []

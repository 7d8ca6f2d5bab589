"""Which MeshConfig counts where there are several, and what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.resources import typed
from meshlib.resources.loader import load_objects
from meshlib.resources.mesh_choice import choose
from tests.support.mesh_config import config_map, mesh_config


def chosen(*written: Any, revision: str = "") -> tuple[str, set[str]]:
    resources = load_objects(written).resources
    assert len(resources) == len(written)
    found, problems = choose(typed.MESH_CONFIG.among(resources), typed.CONFIG_MAP.among(resources), revision)
    return found.id if found is not None else "", {p.path for p in problems}


ISTIO = "ConfigMap/istio-system/istio"
CANARY = "ConfigMap/istio-system/istio-canary"


def test_there_may_be_none():
    assert chosen() == ("", set())


def test_the_config_map_of_istiod():
    assert chosen(config_map()) == (ISTIO, set())


@pytest.mark.parametrize(("revision", "counts"), [("", ISTIO), ("default", ISTIO), ("canary", CANARY), ("gone", ISTIO)])
def test_of_several_revisions_that_of_the_workload_counts(revision, counts):
    found, others = chosen(config_map("istio-canary"), config_map(), revision=revision)
    assert (found, others) == (counts, {ISTIO, CANARY} - {counts})


def test_a_sole_revision_counts_for_everybody():
    assert chosen(config_map("istio-canary")) == (CANARY, set())


def test_of_revisions_without_a_default_none_counts_for_a_workload_of_none():
    assert chosen(config_map("istio-a"), config_map("istio-b")) == (
        "",
        {"ConfigMap/istio-system/istio-a", "ConfigMap/istio-system/istio-b"},
    )


def test_a_config_map_outside_the_root_namespace_is_not_read():
    assert chosen(config_map(namespace="shop", trustDomain="evil.example")) == ("", {"ConfigMap/shop/istio"})


def test_istiod_may_be_installed_in_another_namespace_which_is_the_root_one_then():
    elsewhere = config_map(namespace="infra", rootNamespace="infra")
    assert chosen(elsewhere) == ("ConfigMap/infra/istio", set())
    assert chosen(elsewhere, config_map()) == (ISTIO, {"ConfigMap/infra/istio"})


def test_the_root_namespace_of_an_istiod_in_istio_system_may_be_another_one():
    assert chosen(config_map(rootNamespace="istio-config")) == (ISTIO, set())


def test_a_mesh_config_counts_before_any_config_map():
    assert chosen(config_map(), mesh_config("mine", "default")) == ("MeshConfig/default/mine", {ISTIO})


def test_of_several_mesh_configs_the_one_in_istio_system_then_the_oldest_counts():
    old = mesh_config("old", "default", "2020-01-01T00:00:00Z")
    new = mesh_config("new", "default", "2021-01-01T00:00:00Z")
    assert chosen(new, old) == ("MeshConfig/default/old", {"MeshConfig/default/new"})
    found, _ = chosen(new, old, mesh_config("root", created="2022-01-01T00:00:00Z"))
    assert found == "MeshConfig/istio-system/root"

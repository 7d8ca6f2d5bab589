"""Every rule of validation/ is somebody's, and every kind of Istio's has some."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

from meshlib.resources import rules, validation
from meshlib.resources.kinds import KINDS

JUDGES = ("refusals", "warnings", "notices")


def test_each_judging_function_is_in_the_table():
    named = {name for names in rules._MODULES.values() for name in names}
    for module in pkgutil.iter_modules(validation.__path__):
        found = importlib.import_module(f"meshlib.resources.validation.{module.name}")
        for function in JUDGES:
            own = getattr(vars(found).get(function), "__module__", "") == found.__name__
            if own and module.name != "metadata":  # which is every kind's
                assert f"{module.name}:{function}" in named, f"nobody asks {module.name}.{function}"


@pytest.mark.parametrize("kind", [kind for kind, known in KINDS.items() if known.group.endswith("istio.io")])
def test_each_kind_of_istio_has_rules(kind):
    assert rules.rules_of(kind).refusals is not rules._nothing


def test_other_kinds_have_none():
    assert rules.rules_of("Pod") == rules.Rules(rules._nothing, ())

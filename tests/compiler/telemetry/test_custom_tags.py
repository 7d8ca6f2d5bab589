"""Attributes that every span has, by kind."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.telemetry.custom_tags import custom_tags
from meshlib.policy.telemetry_settings import CustomTag
from meshlib.resources.loader import load_objects
from tests.support.telemetry import telemetry


def made(**tags: Any) -> tuple[CustomTag, ...]:
    (resource,) = load_objects([telemetry(tracing=[{"customTags": tags}])]).resources
    (tracing,) = resource.spec.tracing  # type: ignore[attr-defined]
    return custom_tags(tracing.custom_tags, resource, ("spec", "tracing", 0, "customTags"))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"literal": {"value": "x"}}, CustomTag("t", "literal", "x")),
        ({"header": {"name": "X-Tenant", "defaultValue": "none"}}, CustomTag("t", "header", "x-tenant", "none")),
        ({"environment": {"name": "HOSTNAME", "defaultValue": "h"}}, CustomTag("t", "environment", "HOSTNAME", "h")),
        ({"formatter": {"value": "%PROTOCOL%"}}, CustomTag("t", "formatter", "%PROTOCOL%")),
    ],
)
def test_the_kinds_of_custom_tags(written: dict[str, Any], expected: CustomTag) -> None:
    assert made(t=written) == (expected,)


def test_tags_are_in_the_order_of_their_names_and_one_that_says_nothing_is_none() -> None:
    assert [
        tag.name
        for tag in made(
            b={"literal": {"value": "1"}}, c={}, d={"formatter": {"value": "%NO"}}, a={"literal": {"value": "2"}}
        )
    ] == ["a", "b"]

"""customTags: what every span has beside what the mesh tells."""

from __future__ import annotations

import pytest

from meshlib.policy.telemetry_settings import CustomTag
from meshlib.telemetry.custom_tags import CustomTags


def tags(*made, **headers):
    found = CustomTags(made)
    return {**found.always, **found.of(headers.get)}


def test_literals_and_variables_are_known_beforehand(monkeypatch):
    monkeypatch.setenv("REGION", "eu")
    found = CustomTags((CustomTag("team", "literal", "shop"), CustomTag("region", "environment", "REGION")))
    assert found.always == {"team": "shop", "region": "eu"}
    assert not found.by_header


def test_a_default_stands_in_and_without_one_there_is_no_such_attribute(monkeypatch):
    monkeypatch.delenv("REGION", raising=False)
    assert tags(CustomTag("region", "environment", "REGION", "none"), CustomTag("zone", "environment", "ZONE_X")) == {
        "region": "none"
    }
    assert tags(CustomTag("user", "header", "x-user", "nobody"), CustomTag("plan", "header", "x-plan")) == {
        "user": "nobody"
    }


def test_a_header_of_the_request():
    assert tags(CustomTag("user", "header", "end-user"), **{"end-user": "jason"}) == {"user": "jason"}


@pytest.mark.parametrize("name", ["authorization", "cookie", "x-api-key"])
def test_a_header_that_opens_doors_is_not_shown(name):
    assert tags(CustomTag("who", "header", name), **{name: "canary"}) == {"who": "(not shown)"}


def test_a_header_of_any_length_makes_an_attribute_of_a_bounded_one():
    [value] = tags(CustomTag("user", "header", "end-user"), **{"end-user": "x" * 10_000}).values()
    assert len(value) == 1024

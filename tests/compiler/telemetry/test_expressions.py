"""Which expressions act, and what is wrong with the others."""

from __future__ import annotations

import pytest

from meshlib.compiler.telemetry.expressions import expression_problem, label_of, name_problem, usable_tag
from meshlib.policy.telemetry_settings import TagOverride


@pytest.mark.parametrize(
    ("tag", "label"), [("tenant", "tenant"), ("a.b", "a_b"), ("a-b", "a_b"), ("1a", "_1a"), ("ä", "_")]
)
def test_labels_are_written_as_envoy_writes_them(tag, label):
    assert label_of(tag) == label


def test_a_tag_of_istio_is_replaced_and_another_is_added():
    assert usable_tag("source_app", "'x'", "f:1:1") == TagOverride("source_app", "'x'")
    assert usable_tag("a.b", "request.host", "f:1:1") == TagOverride("a_b", "request.host")


def test_of_what_cannot_be_parsed_istios_label_goes_and_no_other_comes():
    assert usable_tag("source_app", "(", "") == TagOverride("source_app", "")
    assert usable_tag("mine", "(", "") is None


@pytest.mark.parametrize("tag", ["le", "__name__", "source.app", "__"])
def test_labels_that_cannot_be_had(tag):
    assert name_problem(tag)
    assert usable_tag(tag, "'x'", "") is None


def test_names_that_can():
    assert name_problem("source_app") == name_problem("tenant") == ""


def test_problems_of_expressions():
    assert expression_problem("response.code >= 400") == ("", "", "")
    assert expression_problem("response.code >=")[0] == "bad-expression"
    assert expression_problem("respons.code")[0] == "unknown-attribute"

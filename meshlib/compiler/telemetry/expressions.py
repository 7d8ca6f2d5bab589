"""Expressions in CEL as resources write them: which act, and what is wrong with the others. What Envoy cannot parse it leaves
out: a tag of Istio's loses its label then, another one is not added, a log is not filtered by it (istiod refuses that one)."""

from __future__ import annotations

import re

from meshlib.policy.cel_attributes import unknown_attribute
from meshlib.policy.cel_syntax import cel_problem, cel_references
from meshlib.policy.telemetry_settings import TAGS, TagOverride

_NOT_IN_LABELS = re.compile(r"[^a-zA-Z0-9_]")


def label_of(tag: str) -> str:
    """The name of a label for a tag, as Envoy shows it to Prometheus."""
    name = _NOT_IN_LABELS.sub("_", tag)
    return f"_{name}" if name[:1].isdigit() else name


def usable_tag(tag: str, expression: str, where: str) -> TagOverride | None:
    """What ``operation: UPSERT`` comes to; None: nothing."""
    if name_problem(tag):
        return None
    if cel_problem(expression):
        return TagOverride(tag, "", where) if tag in TAGS else None
    return TagOverride(label_of(tag), expression, where)


def name_problem(tag: str) -> str:
    """Why no label can be called so, "" when one can."""
    name = label_of(tag)
    if name == "le" or name.startswith("__"):
        return f"{name} is a label that Prometheus uses itself"
    if name != tag and name in TAGS:
        return f"its label would be {name}, which Istio's metrics have already"
    return ""


def expression_problem(expression: str) -> tuple[str, str, str]:
    """Code, what is wrong and what to do; three "" when nothing is."""
    if problem := cel_problem(expression):
        return (
            "bad-expression",
            f"{expression[:100]!r} is not an expression of CEL: {problem}",
            "for example request.headers['x-tenant'], or 'a text' in quotes of its own",
        )
    unknown, known = unknown_attribute(cel_references(expression))
    if unknown:
        return "unknown-attribute", f"{expression[:100]!r} reads {unknown}, which does not exist", known
    return "", "", ""

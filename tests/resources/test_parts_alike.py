"""Parts that entries of a list have in common are checked once, and change nothing about what is found."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from meshlib.resources.loader import load_objects, load_text
from meshlib.resources.parts_alike import PartsAlike
from meshlib.resources.values import Value
from meshlib.resources.virtual_service import HttpRoute, VirtualService

HEAD = (
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec:\n  hosts: [h.test]\n  http:\n"
)
RULE = "  - match: [{{uri: {{prefix: /p{0}/}}}}]\n    route: [{{destination: {{host: {1}, port: {{number: {2}}}}}}}]\n"


def entry(number: int, host: str = "reviews") -> dict[str, Value]:
    return {"match": [{"uri": {"prefix": f"/{number}"}}], "route": [{"destination": {"host": host}}]}


def checked(parts: PartsAlike, value: dict[str, Value]) -> HttpRoute:
    made = parts.checked(value)
    parts.note(made)
    assert isinstance(made, HttpRoute)
    return made


def test_a_part_that_was_there_before_is_the_same_object() -> None:
    parts = PartsAlike(HttpRoute)
    first, second, third = (checked(parts, entry(n, host)) for n, host in enumerate(("a", "a", "b")))
    assert first.route
    assert second.route
    assert first.route[0] is second.route[0]
    assert first.route is not second.route
    assert (first, second, third) == tuple(HttpRoute.model_validate(entry(n, h)) for n, h in enumerate(("a", "a", "b")))


def test_what_only_looks_alike_is_not_taken_for_the_same() -> None:
    parts = PartsAlike(HttpRoute)
    checked(parts, {"route": [{"destination": {"host": "a"}, "weight": 1}]})
    for weight in (True, 1.0):
        with pytest.raises(ValidationError):
            parts.checked({"route": [{"destination": {"host": "a"}, "weight": weight}]})


def test_a_part_that_is_refused_is_refused_each_time() -> None:
    parts = PartsAlike(HttpRoute)
    for _ in range(2):
        with pytest.raises(ValidationError):
            parts.checked({"route": [{"destination": {"hots": "a"}}]})


def test_a_field_whose_parts_are_all_different_is_not_looked_at_for_ever() -> None:
    parts = PartsAlike(HttpRoute)
    for number in range(2000):
        checked(parts, entry(number))
    assert "match" not in parts._fields
    assert len(parts._fields["route"].parts) == 1


def test_the_version_of_a_configuration_does_not_depend_on_it() -> None:
    text = HEAD + "".join(RULE.format(n, f"h{n % 3}", 80) for n in range(20))
    (loaded,) = load_text(text, "f.yaml").resources
    rules = [
        {
            "match": [{"uri": {"prefix": f"/p{n}/"}}],
            "route": [{"destination": {"host": f"h{n % 3}", "port": {"number": 80}}}],
        }
        for n in range(20)
    ]
    value = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "v"},
        "spec": {"hosts": ["h.test"], "http": rules},
    }
    (given,) = load_objects([value]).resources
    assert loaded.digest() == given.digest()
    assert isinstance(loaded, VirtualService)
    assert isinstance(given, VirtualService)
    assert loaded.spec == given.spec


def test_the_same_mistake_in_parts_alike_is_told_for_each_rule() -> None:
    text = HEAD + "".join(RULE.format(n, "h", 80 if n % 2 else 99999) for n in range(20))
    problems = load_text(text, "f.yaml").problems
    assert [p.line for p in problems] == [8 + 2 * n for n in range(0, 20, 2)]
